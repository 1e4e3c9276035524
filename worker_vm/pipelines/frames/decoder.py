"""The confined child that turns a video into pictures (see `worker_vm.pipelines.frames.run`)."""

from contextlib import AbstractContextManager
from fractions import Fraction
from typing import Any

import av

from worker_vm.pipelines.frames.request import Request
from worker_vm.pipelines.frames.sender import FrameSender, Timeline
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
from worker_vm.video.pictures import Look, warm_up
from worker_vm.video.problems import VideoCode, VideoError
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


class Decoder:
    """One video.

    Decodes selectively first; if anything is wrong with that, all of it; and if something is wrong
    with that too, what can be decoded, if the user wants that.
    """

    def __init__(
        self, request: Request, reader: VideoReader, watch: LogWatch, threads: int
    ) -> None:
        self._request = request
        self._wish = _wish(request)
        self._reader = reader
        self._watch = watch
        self._threads = threads
        self._damage: list[str] = []

    def run(self) -> dict[str, Any]:
        """Tell of the video, its frames and its previews; how it went.

        Raises:
            VideoError: it cannot be read as asked.
        """
        with self._outline() as source:
            table, self._damage = read_packets(
                source,
                wanted_until=self._wish.end,
                max_seconds=self._request.max_seconds,
                partial=self._request.partial,
            )
            facts = describe(source, table, self._request.media_type)
        send(STDOUT, Record("source", facts))
        how, sender = self._decode(table)
        sender.finish()
        return {"how": how, "damage": self._damage, "seen": sender.seen}

    def _outline(self) -> AbstractContextManager[Source]:
        if self._wish.sample is Sample.KEYFRAMES:
            return (
                self._open()
            )  # packets that a table does not call keyframes may say so themselves
        limit = self._request.max_pixels
        return open_outline(self._reader, self._request.media_type, max_pixels=limit)

    def _open(self, *, strict: bool = False) -> AbstractContextManager[Source]:
        return open_source(
            self._reader,
            self._request.media_type,
            max_pixels=self._request.max_pixels,
            threads=self._threads,
            strict=strict,
        )

    def _decode(self, table: PacketTable) -> tuple[str, FrameSender]:
        """Make all frames, somehow; how it was done, and who has sent them."""
        if table.complete:
            try:
                return "selective", self._decode_selectively(table)
            except MemoryError:
                raise
            except (av.FFmpegError, DamagedError):
                send(STDOUT, Record("restart", {}))
        try:
            return "full", self._decode_all(table, lenient=False)
        except MemoryError:
            raise
        except (av.FFmpegError, DamagedError) as error:
            if not self._request.partial or self._watch.too_large:
                raise corrupt(reason_of(error)) from error
        send(STDOUT, Record("restart", {}))
        return "partial", self._decode_all(table, lenient=True)

    def _begin(self, source: Source, table: PacketTable) -> tuple[Selector, FrameSender]:
        self._watch.concealed = False
        selector = Selector(self._wish, source.time_base)
        timeline = Timeline(selector, source.time_base, table.end)
        previews = frozenset(self._request.previews)
        return selector, FrameSender(STDOUT, _look(self._request), previews, timeline)

    def _decode_selectively(self, table: PacketTable) -> FrameSender:
        keyframes = self._wish.sample is Sample.KEYFRAMES
        with self._open(strict=True) as source:
            selector, sender = self._begin(source, table)
            shown = sorted(table.shown_keys()) if keyframes else table.shown()
            missing = dict(settle_all(selector, shown, table.end))
            if not missing:
                raise _nothing_wanted()
            chosen = (plan_keyframes if keyframes else plan)(table, missing.keys())
            with sender:
                for frame in decode_planned(source, chosen):
                    if frame.pts is None:
                        raise DamagedError("a picture does not say when it is shown")
                    tick = frame.pts - source.origin
                    if tick not in missing:
                        continue
                    moments = missing.pop(tick)
                    if frame.is_corrupt:
                        raise DamagedError("a picture is damaged")
                    sender.send(frame, tick, moments)
        if missing:
            raise DamagedError("a wanted picture is missing")
        if self._watch.concealed:
            raise DamagedError(CONCEALED)
        return sender

    def _decode_all(self, table: PacketTable, *, lenient: bool) -> FrameSender:
        found: set[str] = set()
        with self._open(strict=not lenient) as source:
            selector, sender = self._begin(source, table)
            keyframes = self._wish.sample is Sample.KEYFRAMES
            with sender:
                for frame, tick, moments in decode_chosen(
                    source, table, selector, keyframes=keyframes, lenient=lenient, errors=found
                ):
                    sender.send(frame, tick, moments)
        if self._watch.concealed:
            found.add(CONCEALED)
        if found and not lenient:
            raise DamagedError(min(found))
        if not sender.sent:
            raise corrupt(NO_PICTURE) if NO_PICTURE in found else _nothing_wanted()
        self._damage += sorted(found)
        return sender


def _wish(request: Request) -> Wish:
    """Which frames are wanted."""
    return Wish(
        sample=Sample(request.sample),
        fps=Fraction(request.fps),
        start=Fraction(request.start),
        end=None if request.end is None else Fraction(request.end),
        max_frames=request.max_frames,
        frame_limit=request.frame_limit,
        duplicate_limit=request.duplicate_limit,
    )


def _look(request: Request) -> Look:
    """How they should look."""
    return Look(
        format=request.format,
        quality=request.quality,
        max_width=request.max_width,
        autorotate=request.autorotate,
        tonemap=request.tonemap,
        deinterlace=request.deinterlace,
        max_pixels=request.max_pixels,
    )


def _nothing_wanted() -> VideoError:
    return VideoError(
        VideoCode.INVALID_PARAMETERS,
        "No frame of the video answers what was asked for: choose another start_s or end_s, or for"
        " a very short video the sample at_time.",
    )


def main() -> None:
    """Decode stdin to stdout, confined."""
    request = Request.from_json(request_from_argv())

    def work(reader: VideoReader, watch: LogWatch, threads: int) -> dict[str, Any]:
        return Decoder(request, reader, watch, threads).run()

    serve(work, warm_up, request.size_bytes)


if __name__ == "__main__":
    main()
