"""Decoding no more than the wanted frames need.

Decoders can be told, packet by packet, to leave out pictures that no other refers to. And where
the next keyframe really is a new beginning, what follows the last wanted picture before it can be
left out altogether. What is left out must never be missed: whoever calls this checks that all
wanted frames came, undamaged, and else decodes everything.
"""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import av

from worker_vm.video.clock import FrameClock
from worker_vm.video.sampling import Selector
from worker_vm.video.scanning import PacketTable, frame_ticks
from worker_vm.video.source import Source

NO_PICTURE = "no picture can be decoded"
_MOST_FAILURES = 10_000


class Use(IntEnum):
    """What is done with a packet."""

    DROP = 0
    REFERENCE = 1
    """Decoded only if others refer to it."""
    DECODE = 2
    RESTART = 3
    """A keyframe after dropped packets: the decoder forgets what was before."""


@dataclass(frozen=True)
class Plan:
    """A use for each packet, in the order in which they are decoded."""

    uses: bytearray


def plan(table: PacketTable, wanted: AbstractSet[int]) -> Plan:
    """What has to be decoded so that the pictures shown at the wanted ticks come out."""
    count = len(table.ticks)
    uses = bytearray(count)
    starts = [number for number in range(count) if table.keys[number]]
    if not starts or starts[0] != 0:
        starts.insert(0, 0)
    dropped = False
    for position, start in enumerate(starts):
        stop = starts[position + 1] if position + 1 < len(starts) else count
        keep = stop
        if stop == count or not _has_leading(table, stop):
            keep = start
            for number in range(start, stop):
                if table.ticks[number] in wanted and not table.hidden[number]:
                    keep = number + 1
        for number in range(start, keep):
            key = bool(table.keys[number])
            needed = key or table.ticks[number] in wanted
            uses[number] = Use.DECODE if needed else Use.REFERENCE
        if keep > start and dropped and table.keys[start]:
            uses[start] = Use.RESTART
            dropped = False
        dropped = dropped or keep < stop
    return Plan(uses)


def plan_keyframes(table: PacketTable, wanted: AbstractSet[int]) -> Plan:
    """Keyframes stand alone."""
    return Plan(
        bytearray(
            Use.RESTART if key and tick in wanted else Use.DROP
            for tick, key in zip(table.ticks, table.keys, strict=True)
        )
    )


def _has_leading(table: PacketTable, key: int) -> bool:
    """Whether pictures that follow a keyframe in the file are shown before it (open GOP).

    They may refer to what was before the keyframe.
    """
    tick = table.ticks[key]
    for number in range(key + 1, len(table.ticks)):
        if table.keys[number]:
            return False
        if table.ticks[number] < tick:
            return True
    return False


def decode_planned(source: Source, chosen: Plan) -> Iterator[Any]:
    """The frames that come of a plan, in the order in which they are shown.

    Raises:
        av.FFmpegError: something could not be decoded.
    """
    context = source.stream.codec_context
    last = max((n for n, use in enumerate(chosen.uses) if use), default=-1)
    skipping = None
    for number, packet in enumerate(source.packets()):
        if number > last:
            break
        use = chosen.uses[number]
        if use == Use.DROP:
            continue
        if use == Use.RESTART:
            yield from context.decode(None)
            context.flush_buffers()
        wanted_skip = "NONREF" if use == Use.REFERENCE else "DEFAULT"
        if wanted_skip != skipping:
            context.skip_frame = skipping = wanted_skip
        yield from context.decode(packet)
    yield from context.decode(None)


def decode_all(source: Source, *, lenient: bool, errors: set[str]) -> Iterator[Any]:
    """All frames in the order in which they are shown.

    Args:
        source: the video.
        lenient: whether to go on behind what cannot be decoded.
        errors: what is wrong with the frames is noted here.

    Raises:
        av.FFmpegError: something could not be decoded, and that is not wanted.
    """
    context = source.stream.codec_context
    packets = source.packets()
    failures = 0
    while True:
        try:
            packet = next(packets, None)
            for frame in context.decode(packet):
                if frame.is_corrupt:
                    errors.add("some pictures are damaged")
                yield frame
        except av.error.EOFError:
            return
        except MemoryError:
            raise
        except av.FFmpegError as error:
            failures += 1
            errors.add(f"FFmpeg says: {error.strerror or type(error).__name__}")
            if not lenient or failures > _MOST_FAILURES:
                raise
            continue
        if packet is None:
            return


def decode_chosen(
    source: Source,
    table: PacketTable,
    selector: Selector,
    *,
    keyframes: bool,
    lenient: bool,
    errors: set[str],
) -> Iterator[tuple[Any, int, range]]:
    """All frames, when each is shown, and which moments it answers, often none.

    Args:
        source: the video.
        table: its packets.
        selector: a new one; decoding ends when it is done.
        keyframes: whether only they count.
        lenient: whether to go on behind what cannot be decoded.
        errors: what is wrong with the frames is noted here; NO_PICTURE if there is none.

    Raises:
        VideoError: FRAME_LIMIT.
        av.FFmpegError: something could not be decoded, and that is not wanted.
    """
    step = frame_ticks(source)
    clock = FrameClock(source.origin, step, suspicious=table.in_decoding_order)
    before: tuple[Any, int] | None = None
    for frame in decode_all(source, lenient=lenient, errors=errors):
        tick = clock.tick(frame)
        if keyframes and not frame.key_frame:
            continue
        if before:
            yield *before, selector.settle(before[1], tick)
        before = frame, tick
        if selector.done:
            return
    if before is None:
        errors.add(NO_PICTURE)
    else:
        end = before[1] + (before[0].duration or step)
        yield *before, selector.settle(before[1], end)
