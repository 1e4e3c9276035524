"""Going through the packets of an MP4 without reading them."""

import io
import struct
from pathlib import Path

import pytest
from video_clips import CLIPS, Clip

from contract import containers
from worker_vm.video.outline import OutlineReader, find_packets
from worker_vm.video.scanning import scan
from worker_vm.video.source import open_outline, open_source

MOST_PIXELS = 4096 * 2304
MEDIA_TYPES = {"mp4": containers.MP4, "mov": containers.QUICKTIME}
BOXED = sorted(name for name, clip in CLIPS.items() if clip.suffix in MEDIA_TYPES)


class Reader(io.BytesIO):
    """A file in memory that counts what is read of it."""

    failure = None
    bytes_read = 0

    def read(self, size: int | None = -1) -> bytes:
        """Read, and count."""
        data = super().read(size)
        self.bytes_read += len(data)
        return data


def box(kind: bytes, content: bytes = b"", *, length: int | None = None) -> bytes:
    return struct.pack(">I4s", 8 + len(content) if length is None else length, kind) + content


@pytest.mark.parametrize("name", BOXED)
def test_the_table_tells_what_the_packets_tell(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Times, keyframes, hidden packets and ends are the same with the packets and without."""
    clip = CLIPS[name]
    path = clip.write(tmp_path_factory.mktemp("clip") / f"{name}.{clip.suffix}")
    media_type = MEDIA_TYPES[clip.suffix]
    with open_source(
        Reader(path.read_bytes()), media_type, max_pixels=MOST_PIXELS, threads=1
    ) as source:
        whole = scan(source)
        origin, time_base = source.origin, source.time_base
    with open_outline(Reader(path.read_bytes()), media_type, max_pixels=MOST_PIXELS) as source:
        assert scan(source) == whole
        assert (source.origin, source.time_base) == (origin, time_base)


@pytest.mark.parametrize("muxer", [{}, {"movflags": "faststart"}], ids=["behind", "in front"])
def test_packets_are_not_read(tmp_path: Path, muxer: dict[str, str]) -> None:
    """Wherever the table lies, no more is read than that and what opening takes."""
    options = {"preset": "ultrafast", "qp": "1"}
    clip = Clip("libx264", size=(640, 480), options=options, muxer=muxer)
    file = clip.write(tmp_path / "large.mp4").read_bytes()
    reader = Reader(file)
    with open_outline(reader, containers.MP4, max_pixels=MOST_PIXELS) as source:
        assert len(scan(source).ticks) == clip.frames
    assert len(file) > 7_000_000
    assert reader.bytes_read < len(file) / 2


@pytest.mark.parametrize(
    "file",
    [
        b"",
        b"\x00",
        box(b"ftyp") + box(b"mdat", b"1234"),
        box(b"ftyp") + box(b"moov") + box(b"moov") + box(b"mdat", b"1234"),
        box(b"ftyp") + box(b"moov") + box(b"moof") + box(b"mdat", b"1234"),
        box(b"ftyp") + box(b"moov") + box(b"mdat", b"1234", length=13),
        box(b"ftyp") + box(b"moov") + box(b"mdat", length=7),
        box(b"ftyp") + box(b"moov") + box(b"mdat", struct.pack(">Q", 1 << 63), length=1),
        box(b"ftyp") + box(b"moov") + box(b"mdat", b"1234", length=1),
        box(b"moov") + box(b"free") * 64 + box(b"mdat", b"1234"),
        box(b"ftyp") + box(b"moov") + box(b"mdat", b"1234") + b"\x00\x00",
    ],
)
def test_what_is_not_simple_is_read(file: bytes) -> None:
    """Pieces, lies, loose ends: FFmpeg shall see them for itself."""
    assert not find_packets(Reader(file))


@pytest.mark.parametrize(
    ("file", "packets"),
    [
        (box(b"moov") + box(b"mdat", b"1234"), [range(16, 20)]),
        (box(b"mdat", b"12") + box(b"moov") + box(b"mdat", b"34"), [range(8, 10), range(26, 28)]),
        (box(b"moov") + box(b"mdat", b"1234", length=0), [range(16, 20)]),
        (box(b"moov") + box(b"mdat", struct.pack(">Q", 20) + b"1234", length=1), [range(24, 28)]),
    ],
)
def test_where_packets_lie(file: bytes, packets: list[range]) -> None:
    """Whatever way a box says how long it is."""
    assert find_packets(Reader(file)) == packets


def test_zeros_end_where_packets_end() -> None:
    """What lies before, between and behind packets is the file's own."""
    file = b"ab" + b"1234" + b"cd" + b"56" + b"ef"
    reader = OutlineReader(Reader(file), [range(2, 6), range(8, 10)])
    assert reader.read(-1) == file
    reader.leaves_out = True
    reader.seek(0)
    read = b""
    while more := reader.read(3):
        read += more
        assert reader.tell() == len(read)
    # Reading before packets may run into them, but never out of step.
    assert len(read) == len(file)
    assert (read[3:6], read[6:8], read[10:]) == (b"\0\0\0", b"cd", b"ef")
