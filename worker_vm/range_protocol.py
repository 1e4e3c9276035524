"""Reading a file that lies elsewhere, by ranges over a connection; standard library only.

The reader asks for a place and a length, eight and four bytes, big endian, and is answered by the
same twelve bytes and then bytes of the file: fewer than asked for only as the worker's blocks or
the file's end have it, and none if they cannot be had. One request at a time.

Each is one message of a connection that keeps messages apart (SOCK_SEQPACKET). A reader that dies
in the middle of a request leaves at most whole answers behind, and the next one on the same
connection knows by their first bytes that they are not for it.
"""

import errno
import os
import socket
import struct

REQUEST = struct.Struct("!QI")
MOST_BYTES = 1 << 17
"""Of the file in one answer: what a socket takes as one message, whatever its buffer's default."""


class RangeReader:
    """A seekable file at the other end of a connection; remembers that reading it failed.

    Args:
        descriptor: of the connection; it stays open.
        size_bytes: of the file.
    """

    def __init__(self, descriptor: int, size_bytes: int) -> None:
        self._connection = socket.socket(fileno=os.dup(descriptor))
        self._size = size_bytes
        self._place = 0
        self.failure: OSError | None = None

    def close(self) -> None:
        """Close this reader; the connection that it was made of stays open."""
        self._connection.close()

    def read(self, size: int) -> bytes:
        """The next bytes: as many as asked for, or as there are, but at most `MOST_BYTES`.

        Raises:
            OSError: they cannot be had.
        """
        wanted = min(size, MOST_BYTES, self._size - self._place)
        if wanted <= 0:
            return b""
        try:
            data = self._ask(REQUEST.pack(self._place, wanted), wanted)
        except OSError as error:
            self.failure = error
            raise
        self._place += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go elsewhere; where that is.

        Raises:
            OSError: there is no such place.
        """
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}.get(whence)
        if start is None or start + offset < 0:
            raise OSError(errno.EINVAL, "no place in the file")
        self._place = start + offset
        return self._place

    def tell(self) -> int:
        """Where reading goes on."""
        return self._place

    def _ask(self, request: bytes, wanted: int) -> bytes:
        self._connection.sendall(request)
        answer = memoryview(bytearray(len(request) + wanted))
        while True:
            received = self._connection.recv_into(answer)
            if not received:
                raise OSError(errno.ECONNRESET, "the file's other end is gone")
            # Another is what an earlier reader of this connection did not stay for.
            if answer[: len(request)] == request:
                break
        if received == len(request):
            raise OSError(errno.EIO, "the file could not be read")
        return bytes(answer[len(request) : received])
