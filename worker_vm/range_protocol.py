"""Reading a file that lies elsewhere, by ranges over a connection; standard library only.

The reader asks for a place and a length, eight and four bytes, and is answered by a length of four
bytes and so many bytes of the file: fewer than asked for only as `MOST_BYTES` or the file's end
have it, and the length `FAILED` if they cannot be had. One request at a time. All big endian.
"""

import errno
import os
import socket
import struct

REQUEST = struct.Struct("!QI")
ANSWER = struct.Struct("!I")
FAILED = 0xFFFFFFFF
MOST_BYTES = 1 << 20


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
            self._connection.sendall(REQUEST.pack(self._place, wanted))
            data = self._answer(wanted)
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

    def _answer(self, wanted: int) -> bytes:
        (length,) = ANSWER.unpack(self._exactly(ANSWER.size))
        if not 0 < length <= wanted:
            raise OSError(errno.EIO, "the file could not be read")
        return self._exactly(length)

    def _exactly(self, size: int) -> bytes:
        data = bytearray(size)
        view = memoryview(data)
        while view:
            received = self._connection.recv_into(view)
            if not received:
                raise OSError(errno.ECONNRESET, "the file's other end is gone")
            view = view[received:]
        return bytes(data)
