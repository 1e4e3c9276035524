"""Artifacts: uploaded in order, in the background, straight to storage.

What people want to see while the job runs is committed at once. The rest is committed with the
report: a call less for each file, and nothing is shown of a run that fails.
"""

import contextvars
import errno
import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import BinaryIO, TypeVar
from uuid import UUID

import httpx

from contract.artifacts import (
    ArtifactCommit,
    ArtifactRecord,
    UploadTicket,
    UploadTicketRequest,
)
from contract.kinds import ArtifactKind
from worker_vm.api_client import (
    ApiRefusedError,
    AttemptApi,
    AttemptLostError,
)
from worker_vm.backoff import RetryPolicy
from worker_vm.control import RunControl, StopReason
from worker_vm.downloads import StorageUnavailableError
from worker_vm.http_client import describe_network_error
from worker_vm.logs import get_logger
from worker_vm.part_uploads import PartUploader
from worker_vm.pipelines.base import PipelineError, RunCancelledError
from worker_vm.streams import StreamedFile
from worker_vm.upload_tries import UploadTries, explained

log = get_logger(__name__)

COMMIT_TRIES = 3
"""How often a file is uploaded again because the app found something else in storage."""

T = TypeVar("T")

_CHUNK = 1 << 18


SHOWN_AT_ONCE = frozenset({ArtifactKind.PREVIEW, ArtifactKind.CHECKPOINT})
"""Kinds that are of use while the job runs; the rest is committed with the report."""

LARGE_BYTES = 1 << 20
"""From this size on a file is committed by itself, since the app reads all of it."""


@dataclass(frozen=True)
class Upload:
    """One file to hand over, under its file name."""

    kind: ArtifactKind
    path: Path
    media_type: str

    @property
    def name(self) -> str:
        """What it is called as an artifact."""
        return self.path.name

    @property
    def sha256(self) -> str:
        """Of the file as it is now; OSError if it cannot be read."""
        return describe_file(self).sha256


def describe_file(upload: Upload) -> UploadTicketRequest:
    """What a ticket is asked for: name, size and SHA-256 of the file as it is now."""
    digest = hashlib.sha256()
    size = 0
    with open_regular(upload.path) as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
            size += len(chunk)
    return UploadTicketRequest(
        kind=upload.kind,
        name=upload.name,
        media_type=upload.media_type,
        size_bytes=size,
        sha256=digest.hexdigest(),
    )


def open_regular(path: Path) -> BinaryIO:
    """Open a file that a pipeline has made; never wait for what is not a file.

    Raises:
        OSError: it is missing, a link, a pipe or a device.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file")
    return open(descriptor, "rb")  # noqa: PTH123  (the caller closes it)


class FileUploader:
    """Uploads one file at a time: ticket, PUT, commit, each tried again.

    Args:
        api: the attempt's calls.
        storage: a client that doesn't carry the worker key.
        policy: how patient to be with each step.
        pause: waits between tries and says whether to stop trying.
    """

    def __init__(
        self,
        api: AttemptApi,
        storage: httpx.Client,
        *,
        policy: RetryPolicy,
        pause: Callable[[float], bool],
    ) -> None:
        self._api = api
        self._storage = storage
        self._tries = UploadTries(policy, pause)
        self._pause = pause
        self.parts = PartUploader(api, storage, self._tries)
        """The same for a file that comes in parts."""

    def upload(self, upload: Upload | StreamedFile) -> UUID:
        """Bring one file into storage and have it checked; the artifact's id.

        Raises:
            PipelineError: STORAGE_UNAVAILABLE, or INVALID_OUTPUT when the app refuses the file.
            AttemptLostError: the attempt is somebody else's.
        """
        if isinstance(upload, StreamedFile):
            return upload.deliver(self.parts)
        return self._commit(upload, describe_file(upload))

    def store(self, upload: Upload | StreamedFile) -> tuple[UUID, bool]:
        """Bring one file into storage; if it can wait for the report, it is not committed yet.

        Returns:
            The artifact's id, and whether it has been committed.

        Raises:
            As `upload`.
        """
        if isinstance(upload, StreamedFile):
            return self.upload(upload), True
        request = describe_file(upload)
        if upload.kind in SHOWN_AT_ONCE or request.size_bytes >= LARGE_BYTES:
            return self._commit(upload, request), True
        with explained(request.name):
            ticket = self._tries.patiently(request.name, lambda: self._put(upload.path, request))
        log.info("artifact.stored", kind=upload.kind, name=request.name, bytes=request.size_bytes)
        return ticket.ticket_id, False

    def _commit(self, upload: Upload, request: UploadTicketRequest) -> UUID:
        with explained(request.name):
            artifact_id = self._upload(upload.path, request).artifact_id
        log.info("artifact.uploaded", kind=upload.kind, name=request.name, bytes=request.size_bytes)
        return artifact_id

    def _upload(self, path: Path, request: UploadTicketRequest) -> ArtifactRecord:
        for number in range(1, COMMIT_TRIES + 1):
            ticket = self._tries.patiently(request.name, lambda: self._put(path, request))
            commit = ArtifactCommit(ticket_id=ticket.ticket_id)
            try:
                return self._tries.patiently(request.name, lambda c=commit: self._api.commit(c))  # type: ignore[misc]
            except AttemptLostError:
                raise
            except ApiRefusedError as error:
                if number == COMMIT_TRIES:
                    raise
                log.warning("upload.repeated", name=request.name, reason=str(error))
        raise AssertionError

    def _put(self, path: Path, request: UploadTicketRequest) -> UploadTicket:
        """PUT the file under a fresh ticket, since the last one may have expired."""
        ticket = self._api.upload_ticket(request)
        headers = httpx.Headers(
            {"Content-Type": request.media_type, "Content-Length": str(request.size_bytes)}
        )
        headers.update(ticket.headers)
        try:
            with open_regular(path) as file:
                response = self._storage.put(
                    ticket.upload_url, content=self._chunks(file), headers=headers
                )
        except httpx.HTTPError as error:
            raise StorageUnavailableError(describe_network_error(error)) from None
        if not response.is_success:
            raise StorageUnavailableError(f"storage answered {response.status_code}")
        return ticket

    def _chunks(self, file: BinaryIO) -> Iterator[bytes]:
        """A file in pieces, until the upload is not wanted any more."""
        while chunk := file.read(_CHUNK):
            if self._pause(0):
                raise RunCancelledError
            yield chunk


class UploadQueue:
    """Uploads what a run hands over, in a thread of its own.

    The first failure stops the run: its work can't be kept.
    """

    def __init__(self, uploader: FileUploader, control: RunControl) -> None:
        self._uploader = uploader
        self._control = control
        self._waiting: SimpleQueue[int | None] = SimpleQueue()
        self._failure: Exception | None = None
        self._thread: threading.Thread | None = None
        self.submitted: list[Upload | StreamedFile] = []
        # By the place among what was submitted.
        self._ids: dict[int, UUID] = {}
        self._committed: set[int] = set()

    def submit(self, upload: Upload | StreamedFile) -> None:
        """Upload a file as soon as those before it are done."""
        if self._thread is None:
            context = contextvars.copy_context()
            self._thread = threading.Thread(
                target=context.run, args=(self._loop,), name="uploads", daemon=True
            )
            self._thread.start()
        self.submitted.append(upload)
        self._waiting.put(len(self.submitted) - 1)

    def drain(self) -> list[UUID]:
        """Wait for all uploads; the ids of the results in storage, in order.

        Checkpoints are not among them: they go when the job succeeds.

        Raises:
            PipelineError: an upload failed.
            RunCancelledError: the run should stop; not everything was uploaded.
        """
        self._join()
        if self._failure is not None and not isinstance(self._failure, AttemptLostError):
            raise self._failure
        self._control.check()
        return self._results()

    @property
    def awaits_report(self) -> bool:
        """Whether files in storage are to be committed with the report."""
        return bool(self._uncommitted())

    def commit_rest(self, uploader: FileUploader) -> list[UUID]:
        """Upload and commit one by one what is not committed yet.

        Args:
            uploader: one that goes on although the run has ended.

        Returns:
            As `drain`.

        Raises:
            As `FileUploader.upload`.
        """
        for place in self._uncommitted():
            self._commit(place, uploader)
        return self._results()

    def keep_rest(self, uploader: FileUploader) -> None:
        """As `commit_rest`, but as far as it goes: a file that is refused costs no other.

        Raises:
            AttemptLostError, WorkerKeyRefusedError: the app does not take anything.
        """
        for place in self._uncommitted():
            try:
                self._commit(place, uploader)
            except (PipelineError, OSError) as error:
                name = self.submitted[place].name
                log.warning("upload.left_out", name=name, reason=str(error))
            except RunCancelledError:
                log.warning("upload.out_of_time", name=self.submitted[place].name)
                return

    def discard(self) -> None:
        """Drop what has not begun and wait for the upload under way."""
        self._control.end()
        self._join()

    def _results(self) -> list[UUID]:
        return [
            self._ids[place]
            for place in sorted(self._ids)
            if self.submitted[place].kind is not ArtifactKind.CHECKPOINT
        ]

    def _uncommitted(self) -> list[int]:
        return [place for place in range(len(self.submitted)) if place not in self._committed]

    def _commit(self, place: int, uploader: FileUploader) -> None:
        self._ids[place] = uploader.upload(self.submitted[place])
        self._committed.add(place)

    def _join(self) -> None:
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join()

    def _loop(self) -> None:
        while (place := self._waiting.get()) is not None:
            if self._control.stopped.is_set():
                return
            try:
                self._ids[place], committed = self._uploader.store(self.submitted[place])
                if committed:
                    self._committed.add(place)
            except Exception as error:  # noqa: BLE001  (drain raises it in the run's thread)
                self.fail(error)
                return

    def fail(self, error: Exception) -> None:
        """Stop the run, since something that it has made cannot be kept."""
        self._failure = error
        if isinstance(error, AttemptLostError):
            log.warning("attempt.lost", reason=str(error))
            self._control.stop(StopReason.LOST)
        else:
            self._control.stop(StopReason.UPLOAD_FAILED)

    @property
    def failure(self) -> Exception | None:
        """Why an upload failed."""
        return self._failure
