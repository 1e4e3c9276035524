"""An API and a storage server on loopback that speak the contract and can be told to misbehave.

The real app stands in the end-to-end tests; this one exists for what the real one can't do on
demand: fail, answer and drop the connection, lose an attempt in the middle of a run.
"""

import hashlib
import json
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from uuid import UUID, uuid4

from pydantic import BaseModel, TypeAdapter

from contract.artifacts import ArtifactCommit, ArtifactRecord, UploadTicket, UploadTicketRequest
from contract.attempts import (
    AttemptHeartbeat,
    AttemptHeartbeatReply,
    AttemptSucceeded,
    ClaimRequest,
    DetectedEvent,
    FinishReply,
    FinishRequest,
    InputFile,
    JobSpec,
)
from contract.kinds import ArtifactKind
from contract.workers import WorkerHeartbeat, WorkerHeartbeatReply

WORKER_KEY = "wk_0123456789abcdef"
TOKEN = "token-9f8e7d6c5b4a"
SIGNATURE = "X-Amz-Signature=5ec4e7"
LOST = "answer lost"
"""A fault: the request is obeyed, and the connection closed without an answer."""


@dataclass
class Seen:
    """One request as it arrived."""

    route: str
    body: bytes
    headers: dict[str, str]


@dataclass
class Reply:
    """One answer."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def problem(status: int, code: str, detail: str) -> Reply:
    """An RFC 9457 answer."""
    body = json.dumps({"title": code, "status": status, "detail": detail, "code": code})
    return Reply(status, body.encode(), {"Content-Type": "application/problem+json"})


def message(value: BaseModel) -> Reply:
    """A wire message as an answer."""
    return Reply(200, value.model_dump_json().encode(), {"Content-Type": "application/json"})


class Platform:
    """One attempt's side of the platform, and the storage it names."""

    def __init__(self) -> None:
        self.attempt_id = uuid4()
        self.job_id = uuid4()
        self.spec: dict[str, Any] = {
            "model_id": "scripted-v1",
            "model_version": "1",
            "pipeline": "scripted",
            "params": {},
            "prompt": None,
            "inputs": [],
            "time_limit_seconds": 60,
            "lease_seconds": 30,
            "heartbeat_seconds": 10,
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        }
        self.seen: list[Seen] = []
        self.faults: dict[str, list[int | str | Reply]] = defaultdict(list)
        self.cancel_requested = False
        self.away = False
        """Whether the API takes calls and drops them; storage goes on."""
        self.away_after: str | None = None
        """A route whose next call is the last before the API is away."""
        self.claimed_by: ClaimRequest | None = None
        self.finished: bytes | None = None
        self.objects: dict[str, bytes] = {}
        self.tickets: dict[UUID, UploadTicketRequest] = {}
        self.records: list[ArtifactRecord] = []
        self.events: list[DetectedEvent] = []
        self.workers: list[WorkerHeartbeat] = []
        self.changed = threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def new_attempt(self) -> UUID:
        """Be about another attempt of the same model, as if the last one had not been."""
        with self.changed:
            self.attempt_id = uuid4()
            self.job_id = uuid4()
            self.claimed_by = self.finished = None
            self.cancel_requested = False
            self.records.clear()
            self.events.clear()
            self.tickets.clear()
            self.seen.clear()
            self.objects.clear()
        return self.attempt_id

    def add_input(self, parameter: str, data: bytes, **changes: Any) -> InputFile:
        """Put an object into storage and promise it to the attempt."""
        item = self._promise(f"uploads/u/{uuid4()}/picture.png", parameter, data, **changes)
        self.spec["inputs"].append(item)
        return item

    def add_checkpoint(self, name: str, data: bytes, **changes: Any) -> None:
        """Put an earlier attempt's checkpoint into storage and promise it to the attempt."""
        key = f"jobs/{self.job_id}/{uuid4()}/{name}"
        self.spec["checkpoint"] = self._promise(key, name, data, **changes)

    def add_original(self, sha256: str, manifest: bytes | None, **changes: Any) -> UUID:
        """Say that the attempt's job makes another one again, with this result."""
        of = uuid4()
        key = f"jobs/{of}/{uuid4()}/original.json"
        self.spec["reproduction"] = {
            "of": of,
            "kind": "model_3d",
            "sha256": sha256,
            "manifest": self._promise(key, "manifest.json", manifest, **changes)
            if manifest is not None
            else None,
        }
        return of

    def _promise(self, name: str, parameter: str, data: bytes, **changes: Any) -> InputFile:
        self.objects[f"/bucket/{name}"] = data
        promised = {
            "parameter": parameter,
            "object_name": name,
            "url": f"{self.url}/bucket/{name}?{SIGNATURE}",
            "etag": etag(data),
            "size_bytes": len(data),
            "media_type": "image/png",
        }
        return InputFile(**{**promised, **changes})

    def requests(self, route: str) -> list[Seen]:
        """What arrived for one route, in order."""
        return [seen for seen in self.seen if seen.route == route]

    @property
    def outcome(self) -> Any:
        """The report that was accepted."""
        assert self.finished is not None, "no report"
        return TypeAdapter(FinishRequest).validate_json(self.finished)

    def wait_for(self, condition: Any, seconds: float = 30) -> None:
        """Block until something that a request changes is so."""
        with self.changed:
            assert self.changed.wait_for(condition, timeout=seconds), "did not happen"

    def answer(self, route: str, seen: Seen) -> Reply:  # noqa: PLR0911  (one for each case)
        """Obey one request of the API."""
        if seen.headers.get("x-api-key") != WORKER_KEY:
            return problem(401, "UNAUTHENTICATED", "This is not a worker key.")
        if route == "workers/heartbeat":
            self.workers.append(WorkerHeartbeat.model_validate_json(seen.body))
            return message(WorkerHeartbeatReply(next_heartbeat_seconds=30))
        if route == "claim":
            return self._claim(ClaimRequest.model_validate_json(seen.body))
        obey = {
            "finish": self._finish,
            "heartbeat": self._heartbeat,
            "upload-tickets": self._ticket,
            "artifacts": self._commit,
        }.get(route)
        if obey is None:
            return problem(404, "NOT_FOUND", "There is no such attempt.")
        if seen.headers.get("x-attempt-token") != TOKEN or self.claimed_by is None:
            return problem(409, "ATTEMPT_SUPERSEDED", "The attempt is not yours.")
        if self.finished is not None and route != "finish":
            return problem(409, "ATTEMPT_FINISHED", "The attempt is over.")
        return obey(seen.body)

    def _lease(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.spec["lease_seconds"])

    def _claim(self, request: ClaimRequest) -> Reply:
        if self.claimed_by is not None and self.claimed_by.claim_id != request.claim_id:
            return problem(409, "ATTEMPT_SUPERSEDED", "Somebody else runs it.")
        self.claimed_by = request
        return message(
            JobSpec(
                attempt_id=self.attempt_id,
                job_id=self.job_id,
                attempt=1,
                lease_expires_at=self._lease(),
                attempt_token=TOKEN,
                **self.spec,
            )
        )

    def _heartbeat(self, body: bytes) -> Reply:
        known = self.events[-1].sequence if self.events else 0
        told = AttemptHeartbeat.model_validate_json(body).events
        self.events += [event for event in told if event.sequence > known]
        return message(
            AttemptHeartbeatReply(
                cancel_requested=self.cancel_requested, lease_expires_at=self._lease()
            )
        )

    def _ticket(self, body: bytes) -> Reply:
        request = UploadTicketRequest.model_validate_json(body)
        ticket_id = uuid4()
        self.tickets[ticket_id] = request
        return message(
            UploadTicket(
                ticket_id=ticket_id,
                upload_url=f"{self.url}/bucket/{self._key(request)}?{SIGNATURE}",
                headers={"Content-Type": request.media_type},
                expires_at=self._lease(),
            )
        )

    def _key(self, request: UploadTicketRequest) -> str:
        return f"jobs/{self.job_id}/{self.attempt_id}/{request.name}"

    def _commit(self, body: bytes) -> Reply:
        record = self._record(ArtifactCommit.model_validate_json(body).ticket_id)
        return record if isinstance(record, Reply) else message(record)

    def _record(self, ticket_id: UUID) -> ArtifactRecord | Reply:
        """The artifact of a ticket, made if it is not one yet; or why it can't be one."""
        promised = self.tickets[ticket_id]
        data = self.objects.get(f"/bucket/{self._key(promised)}")
        if data is None or hashlib.sha256(data).hexdigest() != promised.sha256:
            return problem(422, "ARTIFACT_MISSING", "Storage does not hold that file.")
        for record in self.records:
            if record.name == promised.name:
                return record
        record = ArtifactRecord(
            artifact_id=ticket_id,
            kind=promised.kind,
            name=promised.name,
            size_bytes=len(data),
            sha256=promised.sha256,
        )
        self.records.append(record)
        return record

    def _finish(self, body: bytes) -> Reply:
        report: FinishRequest = TypeAdapter(FinishRequest).validate_json(body)
        replayed = self.finished == body
        if self.finished is not None and not replayed:
            return problem(409, "ATTEMPT_FINISHED", "Another report has arrived.")
        if isinstance(report, AttemptSucceeded):
            for ticket_id in report.artifact_ids:
                record = self._record(ticket_id)
                if isinstance(record, Reply):
                    return record
        if report.log is not None and not replayed:
            self._keep_log(report.log.encode())
        self.finished = body
        return message(FinishReply(job_status="DONE", replayed=replayed))

    def _keep_log(self, content: bytes) -> None:
        request = UploadTicketRequest(
            kind=ArtifactKind.LOG,
            name="run.log",
            media_type="text/plain",
            size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
        )
        self.objects[f"/bucket/{self._key(request)}"] = content
        ticket_id = uuid4()
        self.tickets[ticket_id] = request
        self._record(ticket_id)


def etag(data: bytes) -> str:
    """What storage calls this content."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _handler(platform: Platform) -> type[BaseHTTPRequestHandler]:  # noqa: C901  (six small ones)
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            route = self.path.removeprefix("/worker/v1/")
            route = route.replace(f"attempts/{platform.attempt_id}/", "")
            self._serve(route, lambda seen: platform.answer(route, seen))

        def do_PUT(self) -> None:
            self._serve("PUT", self._put)

        def do_GET(self) -> None:
            self._serve("GET", self._get)

        def _put(self, seen: Seen) -> Reply:
            path, _, query = self.path.partition("?")
            if query != SIGNATURE or "x-api-key" in seen.headers:
                return Reply(403)
            platform.objects[path] = seen.body
            return Reply(200, headers={"ETag": f'"{etag(seen.body)}"'})

        def _get(self, seen: Seen) -> Reply:
            path, _, query = self.path.partition("?")
            if query != SIGNATURE or "x-api-key" in seen.headers:
                return Reply(403)
            data = platform.objects.get(path)
            if data is None:
                return Reply(404)
            if seen.headers.get("if-match") != f'"{etag(data)}"':
                return Reply(412)
            return Reply(200, data, {"ETag": f'"{etag(data)}"'})

        def _serve(self, route: str, obey: Any) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            seen = Seen(route, body, {k.lower(): v for k, v in self.headers.items()})
            if platform.away and route not in {"PUT", "GET"}:
                self.close_connection = True
                return
            with platform.changed:
                platform.seen.append(seen)
                fault = platform.faults[route].pop(0) if platform.faults[route] else None
                if isinstance(fault, int):
                    reply = problem(fault, f"FAULT_{fault}", "Told to fail.")
                elif isinstance(fault, Reply):
                    reply = fault
                else:
                    reply = obey(seen)
                if route == platform.away_after:
                    platform.away, platform.away_after = True, None
                platform.changed.notify_all()
            if fault == LOST:
                self.close_connection = True
                return
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if "Content-Length" not in reply.headers:
                self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)
            if len(reply.body) < int(reply.headers.get("Content-Length", 0)):
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    return Handler
