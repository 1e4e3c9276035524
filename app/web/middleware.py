"""Pure ASGI middleware: ids, timing and a limit for request bodies.

`BaseHTTPMiddleware` would cost more than the rest of a request (docs/performance.md), so these
speak ASGI themselves.
"""

import logging
import random
import re
import time
from itertools import accumulate

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.db.base import new_id
from app.db.tenancy import leave_tenant
from app.errors import AppError, BodyTooLargeError, InvalidJsonError
from app.logs import get_logger, log_request
from app.web.problems import problem_of, problem_response
from app.web.streamed_bodies import StreamedBody

log = get_logger(__name__)

_REQUEST_ID = re.compile(r"^[A-Za-z0-9._-]{1,128}$")
_TRACEPARENT = re.compile(r"^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$")
_QUIET_PATHS = frozenset({"/livez", "/readyz", "/health"})

MAX_JSON_DEPTH = 32

_DRAIN_FACTOR = 32


def new_traceparent() -> str:
    """A new W3C trace context (https://www.w3.org/TR/trace-context/)."""
    digits = f"{random.getrandbits(192):048x}"
    return f"00-{digits[:32]}-{digits[32:]}-01"


class RequestContextMiddleware:
    """Gives each request its id and trace, binds both to the logs, times it and logs one line."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        # The first of a name counts, so the last is looked at first.
        headers = dict(reversed(scope["headers"]))
        request_id = headers.get(b"x-request-id", b"").decode("latin-1")
        if not _REQUEST_ID.match(request_id):
            request_id = str(new_id())
        traceparent = headers.get(b"traceparent", b"").decode("latin-1")
        if not _TRACEPARENT.match(traceparent):
            traceparent = new_traceparent()
        scope.setdefault("state", {})
        scope["state"].update(request_id=request_id, traceparent=traceparent)
        leave_tenant()
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id, traceparent=traceparent)
        started = time.perf_counter()
        status: int | None = None

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                taken = time.perf_counter() - started
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"x-request-id", request_id.encode()),
                    (b"x-response-time-ms", b"%.1f" % (taken * 1000)),
                ]
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        except Exception as error:
            if status is not None:
                log.exception("request failed", method=scope["method"], path=scope["path"])
                raise  # the answer has begun; the server can only cut the connection
            problem: AppError = _UnexpectedError()
            try:
                # What no handler has seen: middleware, too, asks servers that may be away.
                problem = problem_of(error)
            except Exception:
                log.exception("request failed", method=scope["method"], path=scope["path"])
            await problem_response(problem)(scope, receive, send_with_headers)
        finally:
            leave_tenant()  # what comes after in this task is no request of theirs
            log_request(
                logging.DEBUG if scope["path"] in _QUIET_PATHS else logging.INFO,
                method=scope["method"],
                path=scope["path"],
                status=status,
                ms=round((time.perf_counter() - started) * 1000, 1),
            )


class _UnexpectedError(AppError):
    """Something went wrong on our side. Quote the request id when you report it."""


class BodyLimitMiddleware:
    """Refuses bodies over a number of bytes, and JSON nested too deep to be meant well.

    Files go to object storage by a presigned URL; a route that takes one all the same says so
    (`streams_body`), and bounds what it reads itself.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int, max_depth: int) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.max_depth = max_depth

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body within the limit, then hand it on."""
        if scope["type"] != "http" or scope["method"] in {"GET", "HEAD", "OPTIONS"}:
            await self.app(scope, receive, send)
            return
        if scope["path"] in scope["app"].state.streamed_paths:
            streamed = StreamedBody(receive, send)
            await self.app(scope, streamed.receive, streamed.send)
            return
        read = await self._read(receive)
        if read is None:
            return
        body, length = read
        refusal = self._check(body, length, scope)
        if refusal:
            await self._refuse(refusal, send)
            return
        delivered = False

        async def replay() -> Message:
            nonlocal delivered
            if delivered:
                return await receive()
            delivered = True
            return {"type": "http.request", "body": bytes(body), "more_body": False}

        await self.app(scope, replay, send)

    async def _read(self, receive: Receive) -> tuple[bytearray, int] | None:
        """The body and its length, None if the client has gone; kept only up to the limit.

        What is beyond is read and thrown away: a client that is cut off while it sends may never
        see the answer.
        """
        body = bytearray()
        length = 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return None
            chunk = message.get("body", b"")
            length += len(chunk)
            if length <= self.max_bytes:
                body += chunk
            if not message.get("more_body") or length > _DRAIN_FACTOR * self.max_bytes:
                return body, length

    def _check(self, body: bytearray, length: int, scope: Scope) -> AppError | None:
        if length > self.max_bytes:
            return BodyTooLargeError(
                f"The body is larger than {self.max_bytes} bytes. Files are uploaded to storage "
                "with an upload ticket, not sent in the body."
            )
        # In UTF-16 or UTF-32, which Python would read too, brackets could hide from the count.
        if b"\x00" in body and "json" in Headers(scope=scope).get("content-type", ""):
            return InvalidJsonError()
        if nesting_depth(body) > self.max_depth:
            return BodyTooLargeError(f"The JSON is nested deeper than {self.max_depth} levels.")
        return None

    @staticmethod
    async def _refuse(error: AppError, send: Send) -> None:
        response = problem_response(error)
        await send(
            {
                "type": "http.response.start",
                "status": error.status,
                "headers": [*response.raw_headers, (b"connection", b"close")],
            }
        )
        await send({"type": "http.response.body", "body": response.body})


# A string that is never closed runs to the end: were it no match, each quote in it would be tried
# again, at a cost that grows with the square of its length.
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = [(byte in b"[{") - (byte in b"]}") for byte in range(256)]


def nesting_depth(body: bytes | bytearray) -> int:
    """The deepest nesting of brackets outside strings; an upper bound for any JSON text.

    Nobody has shown a key yet, so it must be cheap: no step of the loops is Python's own.
    """
    brackets = _STRING.sub(b"", body).translate(None, _NO_BRACKETS)
    return max(accumulate(map(_STEPS.__getitem__, brackets), initial=0))
