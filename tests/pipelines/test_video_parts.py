"""The parts that videos are read with, by themselves."""

import errno
import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from worker_vm.pipelines.frames.archive import FramesArchive
from worker_vm.video.confined import corrupt, explain
from worker_vm.video.log_watch import LogWatch
from worker_vm.video.problems import VideoCode, VideoError
from worker_vm.video.reader import DescriptorReader
from worker_vm.video.records import Record, RecordError, receive, send
from worker_vm.video.sampling import Sample, Selector, Wish, settle_all
from worker_vm.video.scanning import PacketTable
from worker_vm.video.selective import Use, plan, plan_keyframes
from worker_vm.video.tonemapping import HLG, PQ, tone_map

TICK = Fraction(1, 100)


def wish(**changes: object) -> Wish:
    """What is asked for: one frame a second unless something else is."""
    values = {
        "sample": Sample.AT_TIME,
        "fps": Fraction(1),
        "start": Fraction(0),
        "end": None,
        "max_frames": None,
        "frame_limit": 100,
        "duplicate_limit": 10,
    }
    return Wish(**{**values, **changes})


def picked(ticks: list[int], until: int, /, **changes: object) -> list[tuple[int, list[int]]]:
    """Frames and the moments that they answer."""
    selector = Selector(wish(**changes), TICK)
    return [(tick, list(moments)) for tick, moments in settle_all(selector, ticks, until)]


@pytest.mark.parametrize(
    ("ticks", "end", "changes", "expected"),
    [
        ([0, 50, 100, 150], 200, {}, [(0, [0]), (100, [1])]),
        # Just too late for its moment: the one before is still on screen.
        ([0, 50, 101, 150], 200, {}, [(0, [0]), (50, [1])]),
        # Nothing is on screen at 0 yet; the first frame stands in.
        ([40, 100], 150, {}, [(40, [0]), (100, [1])]),
        ([0, 250], 300, {}, [(0, [0, 1, 2])]),
        ([0], 1, {}, [(0, [0])]),
        ([0, 100, 200], 300, {"start": Fraction(1, 2)}, [(0, [0]), (100, [1]), (200, [2])]),
        ([0, 100, 200], 300, {"end": Fraction(2)}, [(0, [0]), (100, [1])]),
        ([0, 100, 200], 300, {"max_frames": 1}, [(0, [0])]),
        # Halves are rounded away from zero.
        ([0, 49, 50, 149, 150], 200, {"sample": Sample.FFMPEG_NEAR}, [(49, [0]), (149, [1])]),
        ([0], 49, {"sample": Sample.FFMPEG_NEAR}, []),
        ([0, 30, 60], 90, {"fps": Fraction(0)}, [(0, [0]), (30, [30]), (60, [60])]),
        ([0, 30, 60], 90, {"fps": Fraction(0), "start": Fraction(1, 4)}, [(30, [30]), (60, [60])]),
    ],
)
def test_selection(ticks: list[int], end: int, changes: dict, expected: list) -> None:
    """Each moment is answered by one frame, by the rule that was asked for."""
    assert picked(ticks, end, **changes) == expected


def test_times_are_exact() -> None:
    """At 29.97 frames a second no moment is lost or doubled in an hour."""
    rate = Fraction(30000, 1001)
    ticks = [round(n * 1000 / rate) for n in range(3600 * 30)]
    selector = Selector(
        wish(fps=rate, sample=Sample.FFMPEG_NEAR, frame_limit=10**6), Fraction(1, 1000)
    )
    moments = [m for _, found in settle_all(selector, ticks, ticks[-1] + 33) for m in found]
    assert moments == list(range(len(ticks)))


@pytest.mark.parametrize(
    ("ticks", "changes"),
    [([0, 5000], {}), ([0, 100, 200], {"frame_limit": 1}), ([0, 1 << 60], {})],
)
def test_too_many(ticks: list[int], changes: dict) -> None:
    """A gap that would be filled with copies, or too many frames, end the job."""
    with pytest.raises(VideoError) as caught:
        picked(ticks, ticks[-1] + 1, **changes)
    assert caught.value.code is VideoCode.FRAME_LIMIT


def table(text: str) -> PacketTable:
    """Packets in decoding order: a tick each, a keyframe where a K stands."""
    found = PacketTable()
    for word in text.split():
        found.ticks.append(int(word.removeprefix("K")))
        found.keys.append(word.startswith("K"))
        found.hidden.append(0)
    return found


def test_tails_are_dropped_before_a_new_beginning() -> None:
    """Behind the last wanted picture nothing is decoded until the next keyframe that matters."""
    uses = plan(table("K0 3 1 2 K4 7 5 6 K8 11 9 10"), {1, 8}).uses
    drop, reference, decode = Use.DROP, Use.REFERENCE, Use.DECODE
    assert list(uses) == [
        *(decode, reference, decode, drop),
        *(drop, drop, drop, drop),
        *(Use.RESTART, drop, drop, drop),
    ]


def test_open_groups_are_kept() -> None:
    """Where pictures of the next group are shown before its keyframe, they may need the tail."""
    uses = plan(table("K0 1 2 K5 3 4 6"), {0, 5}).uses
    assert Use.DROP not in uses[:4]
    assert list(uses[4:]) == [Use.DROP] * 3


def test_keyframes_alone() -> None:
    """For keyframes nothing else is decoded."""
    uses = plan_keyframes(table("K0 1 2 K5 3 4 K7"), {0, 7}).uses
    assert [bool(use) for use in uses] == [True, False, False, False, False, False, True]


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_tone_mapping_keeps_order(transfer: int) -> None:
    """Black stays black, the peak is white, grey stays grey, and brighter is never darker."""
    ramp = np.repeat(np.linspace(0, 65535, 256).astype(np.uint16)[None, :, None], 3, axis=2)
    mapped = tone_map(ramp, transfer, wide=False)[0]
    assert tuple(mapped[0]) == (0, 0, 0)
    assert mapped[-1].min() >= 254
    assert (np.diff(mapped.astype(int), axis=0) >= 0).all()
    assert (mapped.max(axis=1) - mapped.min(axis=1) <= 1).all()


def reading(content: bytes) -> Callable[[int], bytes]:
    """A pipe's reading end."""
    return io.BytesIO(content).read


def test_records_arrive_as_they_were_sent() -> None:
    """Facts and bytes survive the pipe, in order."""
    reader, writer = os.pipe()
    sent = [Record("frame", {"target": 1.5}, b"bytes"), Record("done", {"how": "full"})]
    for record in sent:
        send(writer, record)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        assert [receive(file.read, 100), receive(file.read, 100)] == sent
        assert receive(file.read, 100) is None


def message(head: bytes, body: bytes = b"", *, claim: int = 0) -> bytes:
    """A record by hand."""
    return struct.pack("!II", len(head), len(body) + claim) + head + body


@pytest.mark.parametrize(
    "content",
    [
        b"abc",
        message(b"{}"),
        message(b"[]"),
        message(b"nonsense"),
        message(b'{"type": 1}'),
        message(b'{"type": "frame", "pts": NaN}'),
        message(b'{"type": "frame"}', b"short", claim=10),
        struct.pack("!II", 1 << 30, 0),
        struct.pack("!II", 2, 1 << 31),
        message(b'{"type": "frame"}', bytes(101)),
        message(b"[" * 60_000),
    ],
)
def test_nonsense_is_no_record(content: bytes) -> None:
    """Whatever a decoder that was taken over sends, it is refused and not believed."""
    with pytest.raises(RecordError):
        receive(reading(content), 100)


@pytest.mark.parametrize("value", [None, "1", True, 1e300, [], -1e300])
def test_facts_that_are_no_numbers(value: object) -> None:
    """A fact is a number of sensible size, or an error."""
    with pytest.raises(RecordError):
        Record("frame", {"pts": value}).number("pts")


def test_what_cannot_be_read_is_not_damaged(tmp_path: Path) -> None:
    """A disk that fails makes a video look cut short, but the next attempt may read it."""
    damaged = corrupt("it ends early")
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        reader = DescriptorReader(descriptor, 1)
        assert explain(damaged, reader, LogWatch()) is damaged
        with pytest.raises(IsADirectoryError):
            reader.read(1)
    finally:
        os.close(descriptor)
    assert explain(damaged, reader, LogWatch()).code is VideoCode.INPUT_READ_ERROR
    assert explain(MemoryError(), reader, LogWatch()).code is VideoCode.MEMORY_LIMIT


@pytest.mark.parametrize("value", [None, 1e7, -1e7])
def test_facts_that_are_no_moments(value: object) -> None:
    """No video is that long."""
    with pytest.raises(RecordError):
        Record("frame", {"pts": value}).moment("pts")


class Pieces:
    """An `ArtifactStream` that keeps what it is given."""

    def __init__(self) -> None:
        self.content = b""
        self.state = "open"

    def write(self, data: bytes | memoryview) -> int:
        """Add to it."""
        if self.state == "broken":
            raise OSError(errno.EPIPE, os.strerror(errno.EPIPE))
        self.content += data
        return len(data)

    def finish(self) -> None:
        """It is complete."""
        self.state = "finished"

    def drop(self) -> None:
        """Forget it, unless it is complete."""
        if self.state == "open":
            self.state = "dropped"


def archive_of(streams: list[Pieces], max_bytes: int = 1 << 20) -> FramesArchive:
    """An archive of PNG files into streams that are noted here."""

    def begin() -> Pieces:
        streams.append(Pieces())
        return streams[-1]

    return FramesArchive(begin, "png", max_bytes)


PNG = b"\x89PNG\r\n\x1a\n"


def test_archive_takes_only_pictures() -> None:
    """Bytes that are no picture of the kind do not get into the ZIP, nor a copy of nothing."""
    archive = archive_of([])
    for body in (b"", b"<script>", b"\xff\xd8\xff"):
        with pytest.raises(ValueError, match="picture"):
            archive.add(body, 0, 0)
    archive.close()


def test_archive_goes_out_as_it_grows() -> None:
    """Each picture is gone once it is written, under a header that says all about it."""
    streams: list[Pieces] = []
    archive = archive_of(streams)
    sizes = []
    for number in range(3):
        archive.add(PNG + bytes([number]) * 1000, number, number)
        sizes.append(len(streams[0].content))
    archive.finish({"frames": archive.frames})
    assert sizes[0] > 1000
    assert sizes[2] - sizes[1] == sizes[1] - sizes[0] == sizes[0]
    assert archive.size_bytes == len(streams[0].content)
    assert streams[0].state == "finished"
    with zipfile.ZipFile(io.BytesIO(streams[0].content)) as read:
        assert read.testzip() is None
        assert [entry.flag_bits for entry in read.infolist()] == [0] * 4  # none is told afterwards
        assert read.read("frame_0002.png") == PNG + bytes([1]) * 1000
    # Nobody has to look at the end first.
    crc, packed, size = struct.unpack_from("<III", streams[0].content, 14)
    assert (crc, packed, size) == (zlib.crc32(PNG + bytes(1000)), 1008, 1008)


def test_archive_begins_anew() -> None:
    """What was sent before a second try is dropped, and the new file knows nothing of it."""
    streams: list[Pieces] = []
    archive = archive_of(streams)
    archive.add(PNG, 0, 0)
    archive.start_over()
    archive.add(PNG + b"x", 1, 1)
    archive.finish({})
    archive.close()
    assert [stream.state for stream in streams] == ["dropped", "finished"]
    with zipfile.ZipFile(io.BytesIO(streams[1].content)) as read:
        assert read.namelist() == ["frame_0001.png", "manifest.json"]
        assert read.read("frame_0001.png") == PNG + b"x"


def test_archive_has_a_limit() -> None:
    """More bytes than allowed are refused before they are sent."""
    streams: list[Pieces] = []
    archive = archive_of(streams, 2000)
    archive.add(PNG + bytes(1000), 0, 0)
    with pytest.raises(VideoError) as caught:
        archive.add(PNG + bytes(1000), 1, 1)
    archive.close()
    assert caught.value.code is VideoCode.OUTPUT_LIMIT
    assert len(streams[0].content) < 2000
    assert streams[0].state == "dropped"


def test_archive_that_nobody_takes_is_tried_again() -> None:
    """A way to storage that is broken is nobody's input."""
    streams: list[Pieces] = []
    archive = archive_of(streams)
    streams[0].state = "broken"
    with pytest.raises(VideoError) as caught:
        archive.add(PNG, 0, 0)
    archive.close()
    assert caught.value.code is VideoCode.OUTPUT_WRITE_ERROR
    assert json.dumps(caught.value.code) == '"OUTPUT_WRITE_ERROR"'
