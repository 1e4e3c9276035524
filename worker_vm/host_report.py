"""A run's `Reporter` in the pipeline host, and files that are uploaded while they are made.

Standard library only.
"""

import errno
import fcntl
import os
import select
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from contract.events import check_event_data, check_event_type
from contract.kinds import ArtifactKind
from worker_vm import host_manifest
from worker_vm.host_protocol import Advanced, Channel, Detected, Produced, Streamed, Streaming
from worker_vm.pipelines.base import RunCancelledError

_PIPE_BYTES = 1 << 20
_LOOK_MS = 200


class HostReport:
    """A run's `Reporter`: passes on what the pipeline says, and stops it when asked to.

    Closed at the end of the run: a thread that a pipeline has left must not speak for the next.

    Args:
        channel: to the worker.
        cancelled: set when the run should stop.
        facts: for its manifests.
    """

    def __init__(
        self, channel: Channel, cancelled: threading.Event, facts: Mapping[str, Any]
    ) -> None:
        self._channel = channel
        self._cancelled = cancelled
        self._facts = facts
        self._streams: list[PipedFile] = []
        self._closed = False
        self._told = False
        self.has_manifest = False
        """Whether the run has handed over a manifest."""

    def close(self) -> None:
        """Say nothing more, and forget what is not finished."""
        self._closed = True
        for stream in self._streams:
            stream.drop()

    def progress(self, percent: float, stage: str, message: str | None = None) -> None:
        """Tell how far the run is; see `Reporter`."""
        self._check()
        self._channel.send(Advanced(float(percent), str(stage), message))

    def artifact(self, kind: ArtifactKind, path: Path, media_type: str) -> None:
        """Hand over a finished file; see `Reporter`."""
        if self._closed or not self._told:
            self._check()
        if kind == ArtifactKind.MANIFEST:
            self.has_manifest = True
            if media_type == host_manifest.MEDIA_TYPE:
                host_manifest.add_run(Path(path), self._facts)
        # The worker may be in another folder.
        self._channel.send(Produced(str(kind), str(Path(path).absolute()), str(media_type)))

    def event(self, type: str, data: Mapping[str, Any]) -> None:  # noqa: A002
        """Tell something that was seen in the input; see `Reporter`."""
        self._check()
        # Here, where the pipeline's own line stands in the traceback.
        try:
            self._channel.send(Detected(check_event_type(type), check_event_data(data)))
        except ValueError as error:
            raise ValueError(f"The event {type!r} {error}.") from None

    def stream(self, kind: ArtifactKind, name: str, media_type: str) -> "PipedFile":
        """Begin a file that is uploaded while it is made; see `Reporter`."""
        self._check()
        stream = PipedFile(str(name), self._check, self._channel.send)
        self._streams.append(stream)
        try:
            begun = Streaming(str(kind), str(name), str(media_type))
            self._channel.send(begun, [stream.reading_end])
        finally:
            os.close(stream.reading_end)
        return stream

    def _check(self) -> None:
        if self._closed or self._cancelled.is_set():
            self._told = True
            raise RunCancelledError


class PipedFile:
    """An `ArtifactStream` through a pipe, whose other end the worker reads.

    Args:
        name: of the file.
        check: raises RunCancelledError when the run should stop.
        tell: sends the worker a message.
    """

    def __init__(
        self, name: str, check: Callable[[], None], tell: Callable[[Streamed], Any]
    ) -> None:
        self._name = name
        self._check = check
        self._tell = tell
        self._size = 0
        self.reading_end, self._pipe = os.pipe2(os.O_CLOEXEC)
        self._open = True
        self._using = threading.Lock()
        # Where a user may have no more memory in pipes, it stays at its 64 KiB.
        with suppress(OSError):
            fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        os.set_blocking(self._pipe, False)

    def write(self, data: bytes | memoryview) -> int:
        """Add to the file; see `ArtifactStream`."""
        self._require_open()
        view = memoryview(data).cast("B")
        poller = select.poll()
        poller.register(self._pipe, select.POLLOUT)
        written = 0
        while written < len(view):
            self._check()
            if poller.poll(_LOOK_MS):
                with self._using:
                    # Another thread may have dropped it, and the number may be another file's.
                    self._require_open()
                    written += os.write(self._pipe, view[written:])
        self._size += written
        return written

    def finish(self) -> None:
        """Hand the file over; see `ArtifactStream`."""
        self._require_open()
        self._check()
        self.drop()
        self._tell(Streamed(self._name, self._size))

    def drop(self) -> None:
        """Forget the file, unless it is finished."""
        with self._using:
            if self._open:
                self._open = False
                os.close(self._pipe)

    def _require_open(self) -> None:
        if not self._open:
            raise OSError(errno.EBADF, "the file is finished or dropped")
