"""The confined child that turns a video into pixels (see `worker_vm.pipelines.analytics.run`).

It decodes once and in order: what has been told of a frame cannot be taken back.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from fractions import Fraction
from math import ceil
from typing import Any

import av

from worker_vm.pipelines.analytics.request import Request
from worker_vm.sandbox import request_from_argv
from worker_vm.video.confined import (
    CONCEALED,
    STDOUT,
    DamagedError,
    corrupt,
    describe,
    read_packets,
    reason_of,
    serve,
)
from worker_vm.video.log_watch import LogWatch
from worker_vm.video.problems import VideoCode, VideoError
from worker_vm.video.raw_frames import RawFrames, warm_up
from worker_vm.video.reader import VideoReader
from worker_vm.video.records import Record, send
from worker_vm.video.sampling import Sample, Selector, Wish, settle_all
from worker_vm.video.scanning import PacketTable
from worker_vm.video.selective import (
    NO_PICTURE,
    decode_chosen,
    decode_planned,
    plan,
    plan_keyframes,
)
from worker_vm.video.source import Source, open_outline, open_source

_SAMPLED_SECONDS = 60
"""From how much of the video samples are taken."""


class Decoder:
    """One video: its facts, some samples, and then every wanted frame in order."""

    def __init__(
        self, request: Request, reader: VideoReader, watch: LogWatch, threads: int
    ) -> None:
        self._request = request
        self._wish = Wish(
            sample=Sample.AT_TIME,
            fps=Fraction(request.fps),
            start=Fraction(request.start),
            end=None if request.end is None else Fraction(request.end),
            max_frames=request.max_frames,
            frame_limit=request.frame_limit,
            duplicate_limit=request.duplicate_limit,
        )
        self._reader = reader
        self._watch = watch
        self._threads = threads
        self._frames = RawFrames(request.max_width, request.max_pixels)
        self._expected = 0
        self._sent = 0

    def run(self) -> dict[str, Any]:
        """Tell of the video and its frames; how it went.

        Raises:
            VideoError: it cannot be read as asked.
        """
        with open_outline(
            self._reader, self._request.media_type, max_pixels=self._request.max_pixels
        ) as source:
            table, damage = read_packets(
                source,
                wanted_until=self._wish.end,
                max_seconds=self._request.max_seconds,
                partial=self._request.partial,
            )
            facts = describe(source, table, self._request.media_type)
            self._foresee(source, table)
        send(STDOUT, Record("source", facts))
        self._send_samples(table)
        try:
            found = self._send_frames(table)
        except (av.FFmpegError, DamagedError) as error:
            if isinstance(error, MemoryError) or self._watch.too_large:
                raise
            raise corrupt(reason_of(error)) from error
        return {"damage": damage + sorted(found), "seen": self._frames.seen}

    def _open(self, *, strict: bool = False) -> AbstractContextManager[Source]:
        return open_source(
            self._reader,
            self._request.media_type,
            max_pixels=self._request.max_pixels,
            threads=self._threads,
            strict=strict,
        )

    def _foresee(self, source: Source, table: PacketTable) -> None:
        """Refuse what would be too much before any work is done, as far as packets tell."""
        if table.complete:
            selector = Selector(self._wish, source.time_base)
            self._expected = sum(1 for _ in settle_all(selector, table.shown(), table.end))
            if not self._expected:
                raise _nothing_wanted()

    def _send_samples(self, table: PacketTable) -> None:
        """Send samples if they can be had; damage is for the frames themselves to find."""
        if not self._request.samples or not table.complete:
            return
        try:
            with self._open() as source:
                keys = self._in_window(source, table.shown_keys())
                enough = len(keys) * 2 >= self._request.samples
                shown = keys if enough else self._in_window(source, table.shown())
                wanted = set(_spread(shown, self._request.samples))
                for frame in decode_planned(
                    source, (plan_keyframes if enough else plan)(table, wanted)
                ):
                    if frame.pts is not None and frame.pts - source.origin in wanted:
                        self._send("sample", frame, {})
        except MemoryError:
            raise
        except av.FFmpegError:
            return

    def _in_window(self, source: Source, ticks: list[int]) -> list[int]:
        first = ceil(self._wish.start / source.time_base)
        last = ceil((self._wish.start + _SAMPLED_SECONDS) / source.time_base)
        if self._wish.end is not None:
            last = min(last, ceil(self._wish.end / source.time_base))
        return sorted(tick for tick in ticks if first <= tick < last)

    def _send_frames(self, table: PacketTable) -> set[str]:
        """Send all wanted frames; what was wrong with them, if that is taken."""
        found: set[str] = set()
        lenient = self._request.partial
        self._watch.concealed = False
        with self._open(strict=not lenient) as source:
            selector = Selector(self._wish, source.time_base)
            last: int | None = None
            for number, (frame, tick, moments) in enumerate(
                decode_chosen(
                    source, table, selector, keyframes=False, lenient=lenient, errors=found
                )
            ):
                if self._watch.concealed:
                    found.add(CONCEALED)
                if found and not lenient:
                    raise DamagedError(min(found))
                # What is shown for no time, or in the past, is not shown.
                if not moments or (last is not None and tick <= last):
                    continue
                last = tick
                self._sent += 1
                seconds = float(tick * source.time_base)
                share = self._sent / self._expected if self._expected else 0.0
                self._send("frame", frame, {"number": number, "pts": seconds, "share": share})
        if self._watch.concealed:
            found.add(CONCEALED)
        if found and not lenient:
            raise DamagedError(min(found))
        if not self._sent:
            raise corrupt(NO_PICTURE) if NO_PICTURE in found else _nothing_wanted()
        return found

    def _send(self, kind: str, frame: Any, facts: dict[str, Any]) -> None:
        pixels = self._frames.pixels(frame)
        upright = self._frames.upright_size
        sizes = {
            "width": pixels.shape[1],
            "height": pixels.shape[0],
            "upright_width": upright[0],
            "upright_height": upright[1],
        }
        send(STDOUT, Record(kind, {**facts, **sizes}, pixels.tobytes()))


def _spread(values: Sequence[int], count: int) -> list[int]:
    """At most so many of them, evenly spread."""
    if len(values) <= count:
        return list(values)
    return [values[number * len(values) // count] for number in range(count)]


def _nothing_wanted() -> VideoError:
    return VideoError(
        VideoCode.INVALID_PARAMETERS,
        "No frame of the video answers what was asked for: choose another start_s or end_s.",
    )


def main() -> None:
    """Decode stdin to stdout, confined."""
    request = Request.from_json(request_from_argv())

    def work(reader: VideoReader, watch: LogWatch, threads: int) -> dict[str, Any]:
        return Decoder(request, reader, watch, threads).run()

    serve(work, warm_up, request.size_bytes)


if __name__ == "__main__":
    main()
