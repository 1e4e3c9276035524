"""Uploading a file part by part: its ticket, its parts' URLs, each PUT, and the end."""

import base64
import hashlib
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from uuid import UUID

import httpx

from contract.artifacts import ArtifactRecord
from contract.attempts import FailureCode
from contract.streams import StreamCompletion, StreamPartsRequest, StreamRequest
from worker_vm.api_client import ApiRefusedError, AttemptApi
from worker_vm.downloads import StorageUnavailableError
from worker_vm.http_client import describe_network_error
from worker_vm.logs import get_logger
from worker_vm.pipelines.base import PipelineError, RunCancelledError
from worker_vm.upload_tries import UploadTries, explained

log = get_logger(__name__)

_URLS = 8
"""Asked for at once."""
_URLS_LAST_SECONDS = 240
"""Less than they do; by a clock that nobody sets."""
_CHUNK = 1 << 18
_COMPLETIONS = 6
"""How often to ask for the end of an upload that storage says it has not got all of: it may be at
it still, for a call whose answer was lost."""
_COMPLETION_WAIT = 0.5


class PartTickets:
    """What one streamed file has been permitted so far.

    Args:
        request: the file.
        ticket_id: its ticket, if there is one already.
    """

    def __init__(self, request: StreamRequest, ticket_id: UUID | None = None) -> None:
        self.request = request
        self.ticket_id = ticket_id
        self._urls: dict[int, str] = {}
        self._until = 0.0

    def url(self, api: AttemptApi, number: int) -> str:
        """Where a part goes.

        Raises:
            ApiError: as `ApiClient.post`.
        """
        if self.ticket_id is None:
            self.ticket_id = api.begin_stream(self.request).ticket_id
        if number not in self._urls or time.monotonic() >= self._until:
            asked_at = time.monotonic()
            parts = api.stream_parts(
                StreamPartsRequest(ticket_id=self.ticket_id, first=number, count=_URLS)
            )
            self._urls = dict(enumerate(parts.upload_urls, number))
            self._until = asked_at + _URLS_LAST_SECONDS
        return self._urls[number]

    def forget_urls(self) -> None:
        """Ask for new ones: storage refuses these."""
        self._urls = {}


class PartUploader:
    """Uploads parts, each tried again.

    Args:
        api: the attempt's calls.
        storage: a client that doesn't carry the worker key.
        tries: how patient to be with each step.
    """

    def __init__(self, api: AttemptApi, storage: httpx.Client, tries: UploadTries) -> None:
        self._api = api
        self._storage = storage
        self._tries = tries

    @property
    def stopped(self) -> bool:
        """Whether nothing is to be sent any more."""
        return self._tries.pause(0)

    def put(
        self,
        tickets: PartTickets,
        number: int,
        data: bytes,
        unwanted: Callable[[], bool] = lambda: False,
    ) -> str:
        """Bring a part into storage; its ETag there.

        Args:
            tickets: of the file.
            number: of the part.
            data: of the part.
            unwanted: whether nobody wants it any more.

        Raises:
            PipelineError: STORAGE_UNAVAILABLE, or INVALID_OUTPUT when the app refuses the file.
            AttemptLostError: the attempt is somebody else's.
            RunCancelledError: nobody wants it any more.
        """
        digest = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()

        def stop() -> bool:
            return unwanted() or self.stopped

        def put() -> str:
            if unwanted():
                raise RunCancelledError
            url = tickets.url(self._api, number)
            headers = {"Content-Length": str(len(data)), "Content-MD5": digest}
            try:
                response = self._storage.put(url, content=_chunks(data, stop), headers=headers)
            except httpx.HTTPError as error:
                raise StorageUnavailableError(describe_network_error(error)) from None
            if response.status_code == HTTPStatus.NOT_FOUND:
                raise _dropped(tickets)
            if not response.is_success:
                tickets.forget_urls()
                raise StorageUnavailableError(f"storage answered {response.status_code}")
            etag = str(response.headers.get("ETag", "")).strip('"')
            if not etag:
                raise StorageUnavailableError("storage did not name the part that it got")
            return etag

        name = tickets.request.name
        with explained(name):
            return self._tries.patiently(name, put)

    def complete(
        self, tickets: PartTickets, etags: list[str], size_bytes: int, sha256: str
    ) -> ArtifactRecord:
        """Say that all parts are in storage; the artifact that they have become.

        Raises:
            PipelineError: STORAGE_UNAVAILABLE, or INVALID_OUTPUT when the app refuses the file.
            AttemptLostError: the attempt is somebody else's.
        """
        assert tickets.ticket_id is not None, "a file without a part"
        completion = StreamCompletion(
            ticket_id=tickets.ticket_id, etags=etags, size_bytes=size_bytes, sha256=sha256
        )
        name = tickets.request.name
        for number in range(1, _COMPLETIONS + 1):
            try:
                with explained(name):
                    return self._tries.patiently(
                        name, lambda: self._api.complete_stream(completion)
                    )
            except PipelineError as error:
                refusal = error.__cause__
                if not isinstance(refusal, ApiRefusedError):
                    raise
                waits = refusal.code == "ARTIFACT_NOT_UPLOADED" and number < _COMPLETIONS
                if not waits or self._tries.pause(_COMPLETION_WAIT * number):
                    # Not for good: another attempt sends it again.
                    raise PipelineError(error.code, error.message, permanent=False) from refusal
                log.warning("upload.repeated", name=name, reason=str(refusal))
        raise AssertionError


def _chunks(data: bytes, stop: Callable[[], bool]) -> Iterator[bytes]:
    """A part in pieces, until it is not wanted any more."""
    view = memoryview(data)
    for start in range(0, len(view), _CHUNK):
        if stop():
            raise RunCancelledError
        yield bytes(view[start : start + _CHUNK])


def _dropped(tickets: PartTickets) -> PipelineError:
    return PipelineError(
        FailureCode.STORAGE_UNAVAILABLE,
        f"Storage has dropped the parts of the result file {tickets.request.name}.",
        permanent=False,
    )
