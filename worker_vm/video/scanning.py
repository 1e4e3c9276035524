"""What a video's packets tell before anything is decoded: when each picture is shown.

Reading all packets takes a small part of the time that decoding takes, and is worth it: it says
which pictures have to be decoded at all, and refuses a file that lies before work is spent on it.
"""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av

from worker_vm.video.problems import VideoCode, VideoError
from worker_vm.video.source import Source

_MOST_PACKETS = 10_000_000
_MISSING_SECONDS = Fraction(2)
_MISSING_SHARE = Fraction(2, 100)
"""How much earlier than promised a video may end; containers round, and sound may be longer."""


@dataclass
class PacketTable:
    """The packets of a video, in the order in which they are decoded."""

    ticks: "array[int]" = field(default_factory=lambda: array("q"))
    """When each is shown, from the origin."""
    keys: bytearray = field(default_factory=bytearray)
    """Whether each is a keyframe."""
    hidden: bytearray = field(default_factory=bytearray)
    """Whether each is only decoded for the sake of others (edit lists)."""
    end: int = 0
    """When the last picture ends."""
    complete: bool = True
    """Whether each packet says when it is shown, each at another time."""
    in_decoding_order: bool = False
    """Whether packets say when they are decoded, for when they are shown."""
    damaged: int = 0
    """Packets that are known to be broken."""
    last_end: Fraction = Fraction(0)
    """When all of the file ends, in seconds: other streams may last longer."""

    def shown_keys(self) -> list[int]:
        """When keyframes are shown."""
        rows = zip(self.ticks, self.keys, self.hidden, strict=True)
        return [tick for tick, key, hidden in rows if key and not hidden]

    def shown(self) -> list[int]:
        """When pictures are shown, in that order."""
        return sorted(t for t, hidden in zip(self.ticks, self.hidden, strict=True) if not hidden)


def scan(source: Source) -> PacketTable:
    """Read all packets of a video.

    Raises:
        VideoError: FRAME_LIMIT, there is no end of them.
    """
    table = PacketTable()
    longest = 0
    for packet in _until_broken(source, table):
        if not packet.size:
            continue
        if packet.stream_index != source.stream.index:
            _see_other(table, source, packet)
            continue
        if len(table.ticks) == _MOST_PACKETS:
            raise VideoError(
                VideoCode.FRAME_LIMIT, f"The video has more than {_MOST_PACKETS} packets."
            )
        tick = _tick(table, packet, source.origin)
        table.ticks.append(tick)
        table.keys.append(packet.is_keyframe)
        table.hidden.append(packet.is_discard)
        table.damaged += packet.is_corrupt
        if not packet.is_discard and tick >= longest:
            longest = tick
            table.end = tick + (packet.duration or frame_ticks(source))
    table.last_end = max(table.last_end, table.end * source.time_base)
    shown = table.shown()
    table.in_decoding_order = _is_in_decoding_order(source, table)
    table.complete = (
        table.complete and len(set(shown)) == len(shown) and not table.in_decoding_order
    )
    return table


def _is_in_decoding_order(source: Source, table: PacketTable) -> bool:
    """AVI knows nothing else, and FFmpeg makes up for it only with some codecs."""
    if source.container.format.name != "avi" or not source.stream.codec_context.has_b_frames:
        return False
    ticks = table.ticks
    return all(ticks[number] < ticks[number + 1] for number in range(len(ticks) - 1))


def _until_broken(source: Source, table: PacketTable) -> Iterator[Any]:
    """All packets, or those before the first that cannot be read."""
    try:
        yield from source.container.demux(*_told_streams(source))
    except av.error.MemoryError:
        raise
    except av.FFmpegError:
        table.damaged += 1


def _told_streams(source: Source) -> list[Any]:
    """The video if it says how long it lasts, else all: then only the file says that."""
    return [source.stream] if source.stream.duration else []


def _see_other(table: PacketTable, source: Source, packet: Any) -> None:
    if packet.pts is not None and packet.time_base:
        origin = source.origin * source.time_base
        end = (packet.pts + (packet.duration or 0)) * packet.time_base - origin
        table.last_end = max(table.last_end, end)


def _tick(table: PacketTable, packet: Any, origin: int) -> int:
    if packet.pts is None:
        table.complete = False
        return int(packet.dts - origin) if packet.dts is not None else 0
    return int(packet.pts - origin)


def frame_ticks(source: Source) -> int:
    """How long a frame is shown by the stream's average rate; 1 tick if it has none."""
    rate = source.stream.average_rate or source.stream.guessed_rate
    if not rate:
        return 1
    return max(round(1 / (Fraction(rate) * source.time_base)), 1)


def promised_seconds(source: Source) -> Fraction | None:
    """How long the file says that it lasts; None if it does not."""
    stream, container = source.stream, source.container
    if stream.duration:
        return Fraction(stream.duration) * source.time_base
    if container.duration and container.duration > 0:
        return Fraction(container.duration, 1_000_000)
    return None


def ends_early(source: Source, table: PacketTable) -> str | None:
    """How a video is shorter than its file says; None if it is not."""
    promised = promised_seconds(source)
    if promised is None:
        return None
    # Some containers count their duration from 0, wherever they begin.
    actual = table.last_end + max(source.origin, 0) * source.time_base
    missing = promised - actual
    if missing <= _MISSING_SECONDS and missing <= promised * _MISSING_SHARE:
        return None
    if missing <= _MISSING_SECONDS and source.stream.frames in {0, len(table.ticks)}:
        return None
    return f"it says that it lasts {float(promised):.1f} s, but ends after {float(actual):.1f} s"


def check_duration(source: Source, end: int, wanted_until: Fraction | None, limit: int) -> None:
    """Refuse a video that is too long, by what it says as well as by what it is.

    Raises:
        VideoError: DURATION_LIMIT.
    """
    seconds = max(end * source.time_base, promised_seconds(source) or Fraction(0))
    if wanted_until is not None:
        seconds = min(seconds, wanted_until)
    if seconds > limit:
        raise VideoError(
            VideoCode.DURATION_LIMIT,
            f"The video lasts {float(seconds):.0f} s by its own account; at most {limit} s are"
            " taken. Cut it, or set end_s.",
        )
