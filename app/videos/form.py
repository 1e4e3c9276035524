"""A form with files (multipart/form-data, RFC 7578), read while it arrives.

No part is held in memory or on disk: whoever asks for a part reads it piece by piece. The grammar
is Werkzeug's, which keeps no I/O of its own; what it does not limit is limited here.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Self

from starlette.requests import ClientDisconnect, Request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Event, Field, File, MultipartDecoder, NeedData

from app.videos.errors import InvalidFormError, UnsupportedFormError, UploadInterruptedError

MAX_PARTS = 100
_LONGEST_BOUNDARY = 200
"""RFC 2046 allows 70; some clients write more."""
_LONGEST_HEADERS = 16 * 1024
"""Bytes of what is neither a field nor a file: headers, and what stands before and after all."""
_LONGEST_FIELD = 64 * 1024
_LONGEST_NAME = 255
_QUIET_SECONDS = 60.0
"""How long a client may send nothing."""


@dataclass(frozen=True)
class Part:
    """A field or, with a file name, a file; to be read before the next one is asked for."""

    name: str
    filename: str | None
    content: AsyncIterator[bytes]

    async def text(self) -> str:
        """The whole part as text.

        Raises:
            InvalidFormError: it is no UTF-8, or longer than a field may be.
        """
        read = bytearray()
        async for chunk in self.content:
            read += chunk
            if len(read) > _LONGEST_FIELD:
                raise InvalidFormError(
                    f"The field {self.name[:100]!r} is longer than {_LONGEST_FIELD} bytes."
                )
        try:
            return read.decode()
        except UnicodeDecodeError:
            raise InvalidFormError(f"The field {self.name[:100]!r} is not UTF-8.") from None


class Form:
    """The parts of a form, one after the other.

    Args:
        chunks: the body as it arrives.
        boundary: what stands between parts.
    """

    def __init__(self, chunks: AsyncIterator[bytes], boundary: str) -> None:
        self._chunks = chunks
        self._decoder = MultipartDecoder(boundary.encode("latin-1"), max_parts=MAX_PARTS)
        self._events = self._read()

    @classmethod
    def of(cls, request: Request) -> Self:
        """The form that a request brings; nothing is read yet.

        Raises:
            UnsupportedFormError, InvalidFormError: it brings something else.
        """
        kind, options = parse_options_header(request.headers.get("content-type"))
        if kind.lower() != "multipart/form-data":
            raise UnsupportedFormError
        boundary = options.get("boundary", "")
        if not (boundary.isascii() and 0 < len(boundary) <= _LONGEST_BOUNDARY):
            raise InvalidFormError("The Content-Type names no boundary that could be one.")
        return cls(_patient(request.stream()), boundary)

    async def parts(self) -> AsyncIterator[Part]:
        """Every part; what was not read of one is skipped.

        Raises:
            InvalidFormError: the body is no such form, or ends too early.
            UploadInterruptedError: the client has gone, or has sent nothing for a minute.
        """
        async for event in self._events:
            if isinstance(event, Field | File):
                filename = event.filename if isinstance(event, File) else None
                if not event.name:
                    raise InvalidFormError("A part of the form has no name.")
                if len(event.name) > _LONGEST_NAME or len(filename or "") > _LONGEST_NAME:
                    raise InvalidFormError(
                        f"A name in the form is longer than {_LONGEST_NAME} characters."
                    )
                content = self._content()
                yield Part(event.name, filename, content)
                async for _ in content:
                    pass

    async def _content(self) -> AsyncIterator[bytes]:
        async for event in self._events:
            if isinstance(event, Data):
                if event.data:
                    yield event.data
                if not event.more_data:
                    return

    async def _read(self) -> AsyncIterator[Event]:
        async for chunk in self._chunks:
            self._decoder.receive_data(chunk)
            while not isinstance(event := self._next(), NeedData):
                yield event
            if len(self._decoder.buffer) > _LONGEST_HEADERS + len(self._decoder.boundary):
                raise InvalidFormError("The form has headers, or text around its parts, too long.")
        self._decoder.receive_data(None)
        while not self._is_over():
            yield self._next()

    def _is_over(self) -> bool:
        return self._decoder.state.name == "COMPLETE"

    def _next(self) -> Event:
        try:
            return self._decoder.next_event()
        except RequestEntityTooLarge:
            raise InvalidFormError(f"The form has more than {MAX_PARTS} parts.") from None
        except ValueError as error:
            raise InvalidFormError(
                "The form is damaged, or ends before its last boundary. Send it again."
            ) from error


async def _patient(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The chunks of a body, as long as they keep coming."""
    while True:
        try:
            async with asyncio.timeout(_QUIET_SECONDS):
                chunk = await anext(chunks, None)
        except TimeoutError:
            raise UploadInterruptedError(
                f"Nothing has arrived for {_QUIET_SECONDS:.0f} s. Nothing of the upload is kept."
            ) from None
        except ClientDisconnect:
            raise UploadInterruptedError from None
        if chunk is None:
            return
        if chunk:
            yield chunk
