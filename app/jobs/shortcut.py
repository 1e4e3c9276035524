"""The two routes that clients call all day, answered without the framework.

`GET /jobs/{id}` and `POST /jobs/` are declared in `router.py` and `submission_router.py` like all
others, and that is what documents them. Requests for them that are plain are answered here just as
the routes would, at a fraction of the cost (docs/decisions/0009 and 0010); all that is unusual, or
wrong, is left to them.
"""

import re
from collections.abc import Iterable
from uuid import UUID

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.accounts.authenticator import Authenticator, require_user
from app.accounts.principal import Principal
from app.db.tenancy import enter_tenant
from app.jobs.poll import JobReader, answer_headers
from app.jobs.schemas import JobIn
from app.jobs.submission import RequestContext, Submission
from app.jobs.views import answer_submission
from app.limits.limiter import Limiter
from app.limits.policies import Kind
from app.web.conditional import matches
from app.web.problems import problem_of, problem_response

_JOB_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_IDEMPOTENCY_KEY = re.compile(rb"[\x21-\x7e]{1,255}")

_Headers = dict[bytes, bytes]


class JobShortcuts:
    """Answers plain polls and plain creates, and hands on everything else."""

    def __init__(self, app: ASGIApp, *, prefix: str) -> None:
        self.app = app
        self._start = f"{prefix}/jobs/"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer it, or hand it on."""
        if scope["type"] == "http" and scope["path"].startswith(self._start):
            # The first of a name counts, as for the framework.
            headers: _Headers = dict(reversed(scope["headers"]))
            if job_id := self._plain_poll(scope, headers):
                await self._poll(job_id, headers, scope, receive, send)
                return
            if self._is_plain_create(scope, headers):
                await self._create(headers, scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _plain_poll(self, scope: Scope, headers: _Headers) -> UUID | None:
        if scope["method"] != "GET" or b"prefer" in headers or scope.get("root_path"):
            return None
        found = _JOB_ID.fullmatch(scope["path"], len(self._start))
        return UUID(found[0]) if found else None

    def _is_plain_create(self, scope: Scope, headers: _Headers) -> bool:
        key = headers.get(b"idempotency-key")
        return (
            scope["method"] == "POST"
            and scope["path"] == self._start
            and not scope["query_string"]
            and not scope.get("root_path")
            and headers.get(b"content-type") == b"application/json"
            and b"x-idempotency-key" not in headers
            and (key is None or _IDEMPOTENCY_KEY.fullmatch(key) is not None)
        )

    @staticmethod
    async def _poll(
        job_id: UUID, headers: _Headers, scope: Scope, receive: Receive, send: Send
    ) -> None:
        reader: JobReader = scope["app"].state.job_reader
        try:
            look = await reader.look(await _principal(scope, headers), job_id)
        except Exception as error:  # noqa: BLE001  (what has no answer is raised again)
            await problem_response(problem_of(error))(scope, receive, send)
            return
        answered = _encoded(answer_headers(look).items())
        if matches(_text(headers.get(b"if-none-match")), look.etag):
            await send({"type": "http.response.start", "status": 304, "headers": answered})
            await send({"type": "http.response.body", "body": b""})
        else:
            await _send_json(send, 200, answered, look.body)

    async def _create(self, headers: _Headers, scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        try:
            request = JobIn.model_validate_json(message["body"])
        except (KeyError, ValueError):
            await self.app(scope, _with(message, receive), send)  # the route says what is wrong
            return
        state = scope["app"].state
        submission: Submission = state.submission
        limiter: Limiter = state.limiter
        try:
            principal = await _principal(scope, headers)
            await limiter.count(scope, principal, Kind.CREATES)
            submitted = await submission.submit(
                principal,
                request,
                RequestContext(scope["state"]["request_id"], scope["state"]["traceparent"]),
                idempotency_key=_text(headers.get(b"idempotency-key")),
            )
            answer = await answer_submission(state.database, state.settings, submitted)
        except Exception as error:  # noqa: BLE001  (what has no answer is raised again)
            await problem_response(problem_of(error))(scope, receive, send)
            return
        await _send_json(send, 201, _encoded(answer.headers), answer.body)


async def _principal(scope: Scope, headers: _Headers) -> Principal:
    state = scope["app"].state
    authenticator: Authenticator = state.authenticator
    limiter: Limiter = state.limiter
    key, authorization = headers.get(b"x-api-key"), headers.get(b"authorization")
    principal = require_user(await authenticator.authenticate(_text(key), _text(authorization)))
    enter_tenant(principal.organisation_id)
    await limiter.count(scope, principal)
    return principal


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")


def _encoded(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode()) for name, value in headers]


def _with(message: Message, receive: Receive) -> Receive:
    """A channel that gives a message again that was taken from it."""
    taken = [message]

    async def receive_again() -> Message:
        return taken.pop() if taken else await receive()

    return receive_again


async def _send_json(
    send: Send, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes
) -> None:
    length = (b"content-length", b"%d" % len(body))
    kind = (b"content-type", b"application/json")
    message = {"type": "http.response.start", "status": status, "headers": [*headers, length, kind]}
    await send(message)
    await send({"type": "http.response.body", "body": body})
