"""Bodies that a route reads while they arrive, too large to be read before it is asked."""

import asyncio
from contextlib import suppress

from starlette.types import Message, Receive, Send

_LINGER_SECONDS = 10.0
_LINGER_BYTES = 64 << 20


class StreamedBody:
    """One request whose body is handed on unread, so that whoever is refused hears why.

    A server that has answered closes the connection, and a client that is still sending may then
    lose the answer. So the answer is kept open, complete as it is, while the rest of the body is
    read and thrown away: for some seconds, or some megabytes.

    Args:
        receive: the server's.
        send: the server's.
    """

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._whole = False
        self._refused = False

    async def receive(self) -> Message:
        """What the server has received next."""
        message = await self._receive()
        self._whole = message["type"] != "http.request" or not message.get("more_body")
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the answer; behind the last one of a refusal, wait for the client."""
        if message["type"] == "http.response.start" and not self._whole:
            self._refused = True
            message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
        if message.get("more_body") or message["type"] != "http.response.body" or not self._refused:
            await self._send(message)
            return
        await self._send({**message, "more_body": True})
        await self._read_rest()
        await self._send({"type": "http.response.body", "body": b""})

    async def _read_rest(self) -> None:
        read = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                while not self._whole and read < _LINGER_BYTES:
                    read += len((await self.receive()).get("body", b""))
