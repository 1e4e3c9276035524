"""A server that receives webhooks, on a real port, and answers as a test tells it."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TLS = Path(__file__).parent / "tls"
HOST = "hooks.example.test"
"""What the certificate in `tls/hooks.pem` is for; `tls/ca.pem` has signed it, and no system trusts
either."""


@dataclass(frozen=True)
class Received:
    """A request as it came in."""

    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def message(self) -> dict[str, Any]:
        """The body as JSON."""
        return dict(json.loads(self.body))


def plain_answer(status: int = 204, body: bytes = b"", **headers: str) -> bytes:
    """A whole HTTP answer."""
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


Answer = Callable[[Received, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Receiver:
    """What it has received; `answers` are used up one by one, and then all is well."""

    port: int
    scheme: str = "http"
    received: list[Received] = field(default_factory=list)
    answers: list[bytes] = field(default_factory=list)
    answer: Answer | None = None
    """Answers instead, if it is set."""
    connections: int = 0
    server_name: str | None = None
    """What a TLS client has asked for."""

    def url(self, path: str = "/hook", host: str = "127.0.0.1") -> str:
        """Where to reach it."""
        return f"{self.scheme}://{host}:{self.port}{path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Handle one connection."""
        self.connections += 1
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            line, *rest = head.strip().split("\r\n")
            headers = {}
            for header in rest:
                name, _, value = header.partition(":")
                headers[name.lower()] = value.strip()
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            received = Received(line, headers, body)
            self.received.append(received)
            if self.answer is not None:
                await self.answer(received, writer)
            else:
                writer.write(self.answers.pop(0) if self.answers else plain_answer())
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # a client that went away
        finally:
            writer.close()


@asynccontextmanager
async def receiving(*, tls: bool = False) -> AsyncIterator[Receiver]:
    """A receiver on a free port of this machine."""
    receiver = Receiver(0, "https" if tls else "http")
    context = None
    if tls:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(TLS / "hooks.pem")

        def note(_: ssl.SSLObject, name: str | None, __: ssl.SSLContext) -> None:
            receiver.server_name = name

        context.sni_callback = note  # type: ignore[assignment]
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, ssl=context)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
