"""Reading an MP4 without its pictures: its table alone tells of all packets.

The file is a row of boxes (ISO/IEC 14496-12); `moov` says where each packet lies, how long it is
and when it is shown, and `mdat` is the packets. A reader that answers zeros for `mdat` is enough to
go through all packets, and so a large video need not be fetched once more to learn what is in it.
"""

import os
import struct
from collections.abc import Sequence

from worker_vm.video.reader import VideoReader

_ZEROS = bytes(1 << 20)
_MOST_BOXES = 64
_HEADER = struct.Struct(">I4s")
_LONG = struct.Struct(">Q")
# A fragmented file has its table in pieces among its packets.
_KNOWN = frozenset(
    {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"uuid", b"udta", b"meta"}
)


def find_packets(reader: VideoReader) -> Sequence[range]:
    """Where the packets of an MP4 lie; nothing if it is none, or not as simple as most are."""
    size = reader.seek(0, os.SEEK_END)
    place = 0
    found: list[range] = []
    kinds: list[bytes] = []
    while place < size:
        box = _box(reader, place, size)
        if box is None or len(kinds) == _MOST_BOXES:
            return ()
        kind, start, end = box
        kinds.append(kind)
        if kind == b"mdat":
            found.append(range(start, end))
        place = end
    simple = kinds.count(b"moov") == 1 and _KNOWN.issuperset(kinds)
    return found if simple else ()


def _box(reader: VideoReader, place: int, size: int) -> tuple[bytes, int, int] | None:
    """Kind, start of content and end of the box at a place; None if it is not whole."""
    reader.seek(place)
    head = _read(reader, _HEADER.size + _LONG.size)
    if len(head) < _HEADER.size:
        return None
    length, kind = _HEADER.unpack_from(head)
    start = place + _HEADER.size
    if length == 1:
        if len(head) < _HEADER.size + _LONG.size:
            return None
        (length,) = _LONG.unpack_from(head, _HEADER.size)
        start += _LONG.size
    end = place + length if length else size
    return (kind, start, end) if start <= end <= size else None


def _read(reader: VideoReader, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := reader.read(size - len(data))):
        data += more
    return data


class OutlineReader:
    """A video without its packets, once it is told to leave them out.

    Args:
        reader: the video.
        packets: where they lie, in order.
    """

    def __init__(self, reader: VideoReader, packets: Sequence[range]) -> None:
        self._reader = reader
        self._packets = packets
        self._place = 0
        self.leaves_out = False
        """Whether it answers zeros for packets, of which nothing is read then."""

    @property
    def failure(self) -> OSError | None:
        """Why it could not be read."""
        return self._reader.failure

    def read(self, size: int) -> bytes:
        """The next bytes."""
        data = self._zeros(size) if self.leaves_out else None
        if data is None:
            self._reader.seek(self._place)
            data = self._reader.read(size)
        self._place += len(data)
        return data

    def _zeros(self, size: int) -> bytes | None:
        for packets in self._packets:
            if self._place in packets:
                wanted = min(size, packets.stop - self._place)
                return _ZEROS if wanted >= len(_ZEROS) else _ZEROS[:wanted]
        return None

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go elsewhere; where that is."""
        if whence == os.SEEK_CUR:
            offset, whence = self._place + offset, os.SEEK_SET
        self._place = self._reader.seek(offset, whence)
        return self._place

    def tell(self) -> int:
        """Where reading goes on."""
        return self._place
