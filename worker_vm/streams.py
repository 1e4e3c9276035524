"""Files that a run sends while it makes them: read from its pipe, uploaded part by part.

Memory holds a few parts. Where storage or the API takes none for a while, later parts go to disk,
so that neither the run has to wait nor anything of it is lost; and so does, at the end of a run,
what is not in storage yet, since from then on the result must survive this process.
"""

import contextvars
import hashlib
import os
import select
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from pydantic import BaseModel

from contract.attempts import FailureCode
from contract.kinds import ArtifactKind
from contract.streams import MOST_PARTS, PART_BYTES, StreamRequest
from worker_vm.logs import get_logger
from worker_vm.part_uploads import PartTickets, PartUploader
from worker_vm.pipelines.base import PipelineError, RunCancelledError

log = get_logger(__name__)

_IN_MEMORY = 2
"""Parts that wait in memory, the one that is being sent included."""
_STALL_SECONDS = 20.0
"""How long nothing may get through before parts go to disk."""
_SETTLE_SECONDS = 2.0
"""What the last parts get to arrive in storage before they are written to disk."""
_LOOK_MS = 100
_MOST_UNFINISHED = 8
"""Streams of a run at once: each has two threads and some parts in memory."""
_MOST_BEGUN = 64
"""Streams of a run in all."""


@dataclass
class _Part:
    """A part that is not in storage yet; its bytes are in memory, on disk, or both."""

    number: int
    data: bytes | None
    path: Path | None = None

    def read(self) -> bytes:
        if self.data is not None:
            return self.data
        assert self.path is not None
        return self.path.read_bytes()


class StreamRecord(BaseModel):
    """A finished file as it is written down: what of it is in storage, and what on disk."""

    kind: ArtifactKind
    name: str
    media_type: str
    ticket_id: UUID | None
    etags: dict[int, str]
    waiting: dict[int, str]
    """Paths of parts, relative to the run's folder."""
    size_bytes: int
    sha256: str


class StreamedFile:
    """One file. A thread reads it from the run, another one sends it.

    Args:
        request: what it is.
        folder: for parts that storage does not take; made when it is needed.
    """

    def __init__(self, request: StreamRequest, folder: Path) -> None:
        self.kind = request.kind
        self.name = request.name
        self.media_type = request.media_type
        self._tickets = PartTickets(request)
        self._folder = folder
        self._etags: dict[int, str] = {}
        self._waiting: deque[_Part] = deque()
        self._changed = threading.Condition()
        self._digest = hashlib.sha256()
        self._recorded_sha256: str | None = None
        self._size = 0
        self._promised: int | None = None
        self._read = False
        self._over = False
        self._dropped = False
        self._settled = False
        self._moved_at = time.monotonic()
        self._threads: list[threading.Thread] = []
        self.failure: Exception | None = None
        """Why it cannot be had."""

    @classmethod
    def recorded(cls, record: StreamRecord, root: Path) -> "StreamedFile":
        """A finished file that an earlier process has settled in a run's folder."""
        request = StreamRequest(kind=record.kind, name=record.name, media_type=record.media_type)
        file = cls(request, root)
        file._tickets = PartTickets(request, record.ticket_id)
        file._etags = dict(record.etags)
        for number, place in sorted(record.waiting.items()):
            path = root / place
            if path.resolve().is_relative_to(root.resolve()):
                file._waiting.append(_Part(number, None, path))
        file._size = file._promised = record.size_bytes
        file._recorded_sha256 = record.sha256
        file._settled = True
        return file

    def start(
        self,
        pipe: int,
        uploader: PartUploader,
        on_failure: Callable[[Exception], None],
        before: "StreamedFile | None" = None,
    ) -> None:
        """Begin to read and to send.

        Args:
            pipe: where it comes from; closed here.
            uploader: sends parts while the run goes on.
            on_failure: told why the file cannot be had.
            before: the one of the same name that this one takes the place of.
        """

        def failed(error: Exception) -> None:
            # What a run that has to stop could not send may still be sent by `deliver`.
            if not (self._dropped or uploader.stopped):
                self.failure = error
                on_failure(error)

        def send() -> None:
            if before is not None:
                before.join()
            with self._failing(failed):
                self._send(uploader)

        def read() -> None:
            with (
                self._failing(failed),
                open(pipe, "rb", buffering=0) as shared,
                os.fdopen(self._reopened(shared.fileno()), "rb", buffering=0) as own,
            ):
                self._receive(own.fileno())

        for work in (read, send):
            context = contextvars.copy_context()
            thread = threading.Thread(
                target=context.run, args=(work,), name=f"stream-{work.__name__}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    @contextmanager
    def _failing(self, failed: Callable[[Exception], None]) -> Iterator[None]:
        try:
            yield
        except RunCancelledError:
            pass
        except Exception as error:  # noqa: BLE001  (told to the run's own thread)
            failed(error)
        finally:
            with self._changed:
                self._changed.notify_all()

    def finish(self, size_bytes: int) -> None:
        """Note that the run calls it complete, with so many bytes."""
        self._promised = size_bytes

    def close(self) -> None:
        """Note that nothing more comes; without `finish` it is dropped."""
        with self._changed:
            self._over = True
            self._dropped = self._dropped or self._promised is None
            self._changed.notify_all()

    def drop(self) -> None:
        """Forget it; what is in storage goes with its attempt."""
        with self._changed:
            self._dropped = True
            self._changed.notify_all()

    def join(self) -> None:
        """Wait until nobody reads or sends it any more."""
        for thread in self._threads:
            thread.join()

    # --- from the run --------------------------------------------------------------------------

    def _reopened(self, pipe: int) -> int:
        """A reading end of our own, which never waits.

        Whether reading waits is a flag that is shared with everybody who has a duplicate: a run
        could clear it, take what has come, and have us wait for ever.

        Raises:
            PipelineError: INVALID_OUTPUT; it is no pipe.
        """
        if not stat.S_ISFIFO(os.fstat(pipe).st_mode):
            raise unusable(self.name, "does not come through a pipe")
        return os.open(f"/proc/self/fd/{pipe}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def _receive(self, pipe: int) -> None:
        buffer = memoryview(bytearray(PART_BYTES))
        number = 0
        try:
            while filled := self._fill(pipe, buffer):
                number += 1
                if number > MOST_PARTS:
                    raise unusable(self.name, "is too large")
                self._digest.update(buffer[:filled])
                self._size += filled
                self._add(_Part(number, bytes(buffer[:filled])))
                if filled < PART_BYTES:
                    break
        finally:
            with self._changed:
                self._read = True
                self._changed.notify_all()

    def _fill(self, pipe: int, buffer: memoryview) -> int:
        """Read until the buffer is full or nothing more comes; how many bytes that were."""
        filled = 0
        poller = select.poll()
        poller.register(pipe, select.POLLIN)
        while filled < len(buffer) and not self._unwanted:
            # What came before the run was over is there by now; nobody is waited for after it.
            over = self._over
            poller.poll(0 if over else _LOOK_MS)
            try:
                received = os.readv(pipe, [buffer[filled:]])
            except BlockingIOError:
                if over:
                    break
                continue
            if not received:
                break
            filled += received
        return 0 if self._unwanted else filled

    @property
    def _unwanted(self) -> bool:
        return self._dropped or self.failure is not None

    def _add(self, part: _Part) -> None:
        """Have a part sent; wait while memory is full, or write it to disk if that lasts."""
        with self._changed:
            while self._crowded and not self._unwanted:
                left = self._moved_at + _STALL_SECONDS - time.monotonic()
                if left <= 0:
                    self._write_down(part)
                    part.data = None
                    break
                self._changed.wait(left)
            if not self._waiting:
                self._moved_at = time.monotonic()
            self._waiting.append(part)
            self._changed.notify_all()

    @property
    def _crowded(self) -> bool:
        return sum(part.data is not None for part in self._waiting) >= _IN_MEMORY

    def _write_down(self, part: _Part) -> None:
        assert part.data is not None
        self._folder.mkdir(parents=True, exist_ok=True)
        part.path = self._folder / f"part-{part.number:05d}"
        part.path.write_bytes(part.data)

    # --- to storage ----------------------------------------------------------------------------

    def _send(self, uploader: PartUploader, *, wait: bool = True) -> None:
        """Send all parts, also those that are still to come if `wait` says so."""
        while (part := self._next(wait=wait)) is not None:
            etag = uploader.put(self._tickets, part.number, part.read(), lambda: self._dropped)
            with self._changed:
                self._etags[part.number] = etag
                self._waiting.popleft()
                self._moved_at = time.monotonic()
                if part.path is not None and not self._settled:
                    part.path.unlink()
                self._changed.notify_all()

    def _next(self, *, wait: bool) -> _Part | None:
        with self._changed:
            while wait and not (self._waiting or self._read or self._dropped):
                self._changed.wait()
            return self._waiting[0] if self._waiting and not self._dropped else None

    def deliver(self, uploader: PartUploader) -> UUID:
        """Bring what is left of a finished file into storage and have it committed; its id.

        Raises:
            PipelineError: STORAGE_UNAVAILABLE, or INVALID_OUTPUT when the app refuses the file.
            AttemptLostError: the attempt is somebody else's.
            RunCancelledError: it is not to be sent any more.
        """
        self.join()
        self._check()
        self._send(uploader, wait=False)
        etags = [self._etags[number] for number in sorted(self._etags)]
        record = uploader.complete(self._tickets, etags, self._size, self.sha256)
        log.info("artifact.streamed", kind=self.kind, name=self.name, bytes=self._size)
        return record.artifact_id

    @property
    def sha256(self) -> str:
        """Of the whole file, which is waited for."""
        if self._recorded_sha256 is not None:
            return self._recorded_sha256
        self._threads[0].join()
        return self._digest.hexdigest()

    # --- to disk -------------------------------------------------------------------------------

    def settle(self, root: Path) -> StreamRecord:
        """What of a finished file lies where; the file does not need this process any more.

        Args:
            root: the run's folder; paths are relative to it.

        Raises:
            OSError: parts cannot be written.
            PipelineError: it is not complete.
        """
        self._threads[0].join()
        self._check()
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting, _SETTLE_SECONDS)
            self._settled = True
            for part in self._waiting:
                if part.path is None:
                    self._write_down(part)
            return StreamRecord(
                kind=self.kind,
                name=self.name,
                media_type=self.media_type,
                ticket_id=self._tickets.ticket_id,
                etags=dict(self._etags),
                waiting={
                    part.number: str(part.path.relative_to(root))
                    for part in self._waiting
                    if part.path is not None
                },
                size_bytes=self._size,
                sha256=self.sha256,
            )

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure
        if self._size == 0:
            raise unusable(self.name, "is empty")
        if self._size != self._promised:
            raise unusable(self.name, f"came with {self._size} bytes instead of {self._promised}")


def unusable(name: str, problem: str) -> PipelineError:
    """INVALID_OUTPUT for a file of that name; another attempt may make a better one."""
    return PipelineError(
        FailureCode.INVALID_OUTPUT,
        f"The pipeline made a result that cannot be kept: {name} {problem}.",
        permanent=False,
    )


class RunStreams:
    """The streamed files of one run.

    Args:
        folder: for parts that storage does not take.
        uploader: sends parts while the run goes on.
        on_failure: told why a file cannot be had.
    """

    def __init__(
        self, folder: Path, uploader: PartUploader, on_failure: Callable[[Exception], None]
    ) -> None:
        self._folder = folder
        self._uploader = uploader
        self._on_failure = on_failure
        self._files: dict[str, StreamedFile] = {}
        self._finished: list[StreamedFile] = []
        self._begun = 0

    def begin(self, request: StreamRequest, pipe: int) -> None:
        """Take a file that comes through a pipe; one of the same name is dropped for it.

        Args:
            request: what it is.
            pipe: where it comes from; closed here, also if it is refused.

        Raises:
            PipelineError: INVALID_OUTPUT; there are too many.
        """
        before = self._files.get(request.name)
        problem = None
        if before is None and len(self._files) >= _MOST_UNFINISHED:
            problem = f"would be one more than {_MOST_UNFINISHED} unfinished files"
        elif self._begun >= _MOST_BEGUN:
            problem = f"would be one more than {_MOST_BEGUN} streamed files, in all, of a run"
        if problem is not None:
            os.close(pipe)
            raise unusable(request.name, problem)
        self._begun += 1
        if before is not None:
            before.drop()
        file = StreamedFile(request, self._folder / str(self._begun))
        self._files[request.name] = file
        file.start(pipe, self._uploader, self._on_failure, before)

    def finish(self, name: str, size_bytes: int) -> StreamedFile | None:
        """The file that is complete; None if none of that name has begun."""
        file = self._files.pop(name, None)
        if file is not None:
            file.finish(size_bytes)
            self._finished.append(file)
        return file

    def close(self) -> None:
        """Note that the run has ended; what is not finished is dropped."""
        for file in (*self._files.values(), *self._finished):
            file.close()
