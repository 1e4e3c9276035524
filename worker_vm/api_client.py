"""The worker's side of the API: typed calls, typed errors. Nothing is retried here."""

from http import HTTPStatus
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import UUID

import httpx
from pydantic import SecretStr, ValidationError

from contract.artifacts import ArtifactCommit, ArtifactRecord, UploadTicket, UploadTicketRequest
from contract.attempts import (
    ATTEMPT_TOKEN_HEADER,
    AttemptHeartbeat,
    AttemptHeartbeatReply,
    ClaimRequest,
    FinishReply,
    FinishRequest,
    JobSpec,
)
from contract.base import Message
from contract.streams import (
    StreamCompletion,
    StreamParts,
    StreamPartsRequest,
    StreamRequest,
    StreamTicket,
)
from contract.workers import WorkerHeartbeat, WorkerHeartbeatReply
from worker_vm import __version__
from worker_vm.http_client import describe_network_error, make_client

API_KEY_HEADER = "x-api-key"
BASE_PATH = "/worker/v1"

FOREIGN = {HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}
"""Without a code of ours: a proxy's answers while the API is being replaced."""
PASSING = {
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_EARLY,
    HTTPStatus.TOO_MANY_REQUESTS,
}
"""Refusals that pass by themselves."""

ABOUT_A_FILE = ("TICKET_", "UPLOAD_", "ARTIFACT_")
"""Beginnings of codes whose 409 or 410 concerns one file and not the attempt."""

TOKEN_REFUSED = "ATTEMPT_TOKEN_INVALID"  # noqa: S105  (a code)
"""A 403 that concerns the attempt and not the worker key."""

Reply = TypeVar("Reply", bound=Message)


class ApiError(Exception):
    """A call to the API did not succeed."""


class ApiUnavailableError(ApiError):
    """The API could not be reached, or could not answer now; the same call may succeed later."""


class ApiRefusedError(ApiError):
    """The API understood the call and refuses it.

    Args:
        status: HTTP status.
        code: the problem's stable name; `HTTP_<status>` where the answer names none.
        detail: the problem's sentence.
        request_id: what the API's own log knows the call by.
    """

    def __init__(self, status: int, code: str, detail: str, request_id: str | None = None) -> None:
        super().__init__(f"{detail} ({status} {code})")
        self.status = status
        self.code = code
        self.detail = detail
        self.request_id = request_id


class WorkerKeyRefusedError(ApiRefusedError):
    """The API refused the worker key (401, 403)."""

    def __str__(self) -> str:
        """A sentence that says what to do."""
        return f"The API refused the worker key; check WORKER_API_KEY. It says: {self.args[0]}"


class AttemptLostError(ApiRefusedError):
    """The attempt is somebody else's now, or over: stop without a report."""


class ApiClient:
    """One worker's connection to the API. Safe to use from several threads of one process."""

    def __init__(self, base_url: str, worker_key: SecretStr, *, read_seconds: float = 30) -> None:
        self._base_url = base_url.rstrip("/") + BASE_PATH
        self._http = make_client(read_seconds=read_seconds)
        self._http.headers[API_KEY_HEADER] = worker_key.get_secret_value()
        self._http.headers["User-Agent"] = f"pipeline3d-worker/{__version__}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def worker_heartbeat(self, message: WorkerHeartbeat) -> WorkerHeartbeatReply:
        """Tell what this worker is and can do."""
        return self.post("/workers/heartbeat", message, WorkerHeartbeatReply)

    def claim(self, attempt_id: UUID, request: ClaimRequest) -> JobSpec:
        """Ask for the right to run an attempt.

        Raises:
            AttemptLostError: superseded, cancelled or expired.
        """
        return self.post(f"/attempts/{attempt_id}/claim", request, JobSpec)

    def attempt(self, spec: JobSpec) -> "AttemptApi":
        """The calls of one claimed attempt."""
        return AttemptApi(self, spec)

    def post(
        self,
        path: str,
        message: Message,
        reply: type[Reply],
        headers: dict[str, str] | None = None,
        timeout: float | None = None,
    ) -> Reply:
        """Send one message and read its answer.

        Raises:
            ApiUnavailableError: worth trying again.
            WorkerKeyRefusedError: 401, 403.
            AttemptLostError: 409, 410, or the attempt's token is refused.
            ApiRefusedError: any other refusal.
        """
        try:
            response = self._http.post(
                self._base_url + path,
                content=message.model_dump_json(),
                headers={"Content-Type": "application/json", **(headers or {})},
                timeout=timeout if timeout is not None else httpx.USE_CLIENT_DEFAULT,
            )
        except httpx.HTTPError as error:
            raise ApiUnavailableError(
                f"The API does not answer: {describe_network_error(error)}"
            ) from None
        if not response.is_success:
            raise _refusal(response)
        try:
            return reply.model_validate_json(response.content)
        except ValidationError as error:
            raise ApiUnavailableError(
                f"The API's answer to {path} is not a {reply.__name__}"
                f" ({error.error_count()} errors); is API_URL right?"
            ) from None


class AttemptApi:
    """The calls of one claimed attempt; each carries the attempt's token.

    All of them raise what `ApiClient.post` raises.
    """

    def __init__(self, client: ApiClient, spec: JobSpec) -> None:
        self._client = client
        self._path = f"/attempts/{spec.attempt_id}"
        self._headers = {ATTEMPT_TOKEN_HEADER: spec.attempt_token}
        if spec.traceparent:
            self._headers["traceparent"] = spec.traceparent

    def heartbeat(self, message: AttemptHeartbeat, timeout: float) -> AttemptHeartbeatReply:
        """Extend the lease and tell the progress, within `timeout` seconds."""
        return self._post("/heartbeat", message, AttemptHeartbeatReply, timeout)

    def upload_ticket(self, request: UploadTicketRequest) -> UploadTicket:
        """Ask where to PUT one file."""
        return self._post("/upload-tickets", request, UploadTicket)

    def commit(self, request: ArtifactCommit) -> ArtifactRecord:
        """Have an uploaded file checked and shown."""
        return self._post("/artifacts", request, ArtifactRecord)

    def begin_stream(self, request: StreamRequest) -> StreamTicket:
        """Begin a file that is uploaded in parts, or begin it anew."""
        return self._post("/streams", request, StreamTicket)

    def stream_parts(self, request: StreamPartsRequest) -> StreamParts:
        """Ask where to PUT some parts of it."""
        return self._post("/streams/parts", request, StreamParts)

    def complete_stream(self, completion: StreamCompletion) -> ArtifactRecord:
        """Have its parts put together, checked and shown."""
        return self._post("/streams/complete", completion, ArtifactRecord)

    def finish(self, outcome: FinishRequest) -> FinishReply:
        """Report how the attempt ended."""
        return self._post("/finish", outcome, FinishReply)

    def _post(
        self, path: str, message: Message, reply: type[Reply], timeout: float | None = None
    ) -> Reply:
        return self._client.post(self._path + path, message, reply, self._headers, timeout)


def is_passing(error: Exception) -> bool:
    """Whether the same call may succeed later."""
    return isinstance(error, ApiUnavailableError)


def _refusal(response: httpx.Response) -> ApiError:
    status = response.status_code
    problem = _problem(response)
    code = str(problem.get("code") or f"HTTP_{status}")
    detail = str(problem.get("detail") or problem.get("title") or response.reason_phrase)[:1000]
    request_id = response.headers.get("X-Request-ID")
    foreign = "code" not in problem and status in FOREIGN
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in PASSING or foreign:
        return ApiUnavailableError(f"The API cannot answer now: {detail} ({status} {code})")
    over = status in {HTTPStatus.CONFLICT, HTTPStatus.GONE} and not code.startswith(ABOUT_A_FILE)
    if over or code == TOKEN_REFUSED:
        return AttemptLostError(status, code, detail, request_id)
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return WorkerKeyRefusedError(status, code, detail, request_id)
    return ApiRefusedError(status, code, detail, request_id)


def _problem(response: httpx.Response) -> dict[str, Any]:
    """The members of an RFC 9457 problem; empty when the body is something else."""
    try:
        problem = response.json()
    except (ValueError, RecursionError):
        return {}
    return problem if isinstance(problem, dict) else {}
