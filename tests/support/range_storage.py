"""A storage server that knows ranges, one object, and every way to fail in sending a part of it."""

import hashlib
import re
import socket
import struct
import threading
import time
from collections import deque
from contextlib import suppress
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from contract.attempts import InputFile

PATH = "/bucket/uploads/u/t/video.mp4"
SIGNATURE = "X-Amz-Signature=0"


class Fault(StrEnum):
    """What becomes of one request."""

    RESET = "reset"
    """Its connection is reset, unanswered."""
    CUT = "cut"
    """Half of the answer comes, then the connection closes."""
    SHORT = "short"
    """Half of the part comes, and the headers say that this is all that was sent."""
    UNAVAILABLE = "503"
    DENIED = "403"
    WHOLE = "whole"
    """The whole object comes, with status 200."""
    ANOTHER_PART = "another part"
    DRIBBLE = "dribble"
    """A byte comes now and then, until the other end has enough."""


class RangeStorage:
    """Serves `data` by presigned GET, in parts. A context manager.

    Args:
        data: the object.
        status: of a part: some servers say 200.
    """

    def __init__(self, data: bytes, *, status: int = 206) -> None:
        self.data = data
        self.status = status
        self.etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
        self.faults: deque[Fault] = deque()
        self.always: Fault | None = None
        self.ranges: list[tuple[int, int]] = []
        """What was asked for, first and last byte."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )

    @property
    def item(self) -> InputFile:
        """The object as an attempt is told of it when this is called."""
        return InputFile(
            parameter="video_path",
            object_name=PATH.removeprefix("/bucket/"),
            url=f"http://127.0.0.1:{self._server.server_port}{PATH}?{SIGNATURE}",
            etag=self.etag,
            size_bytes=len(self.data),
            media_type="video/mp4",
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(storage: RangeStorage) -> type[BaseHTTPRequestHandler]:  # noqa: C901  (small ones)
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            if self.path != f"{PATH}?{SIGNATURE}" or "x-api-key" in self.headers:
                self._answer(403, b"")
                return
            fault = storage.faults.popleft() if storage.faults else storage.always
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            if asked is None:
                self._answer(200, storage.data)
                return
            first, last = map(int, asked.groups())
            storage.ranges.append((first, last))
            if self.headers.get("If-Match") != f'"{storage.etag}"':
                self._answer(412, b"")
            elif first >= len(storage.data):
                self._answer(416, b"")
            else:
                self._answer_part(first, min(last, len(storage.data) - 1), fault)

        def _answer_part(self, first: int, last: int, fault: Fault | None) -> None:
            part = storage.data[first : last + 1]
            match fault:
                case Fault.RESET:
                    linger_not = struct.pack("ii", 1, 0)
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_not)
                    self.connection.close()
                    self.close_connection = True
                case Fault.UNAVAILABLE | Fault.DENIED:
                    self._answer(int(fault), b"")
                case Fault.WHOLE:
                    self._answer(200, storage.data)
                case Fault.ANOTHER_PART:
                    self._answer(storage.status, part, (first + 1, last + 1))
                case Fault.CUT:
                    self._answer(storage.status, part, (first, last), sent=len(part) // 2)
                case Fault.DRIBBLE:
                    self._answer(storage.status, part, (first, last), sent=1)
                    with suppress(OSError):
                        while True:
                            time.sleep(0.01)
                            self.wfile.write(b"x")
                case Fault.SHORT:
                    self._answer(storage.status, part[: len(part) // 2], (first, last))
                case _:
                    self._answer(storage.status, part, (first, last))

        def _answer(
            self,
            status: int,
            body: bytes,
            part: tuple[int, int] | None = None,
            sent: int | None = None,
        ) -> None:
            self.send_response(status)
            self.send_header("ETag", f'"{storage.etag}"')
            self.send_header("Content-Length", str(len(body)))
            if part is not None:
                whole = len(storage.data)
                self.send_header("Content-Range", f"bytes {part[0]}-{part[1]}/{whole}")
            self.end_headers()
            self.wfile.write(body[:sent])
            if sent is not None:
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    return Handler
