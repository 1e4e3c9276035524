"""The confined child that turns a video into pictures (see `worker_vm.pipelines.frames.run`).

Stdin is the file, or a connection over which it is read, and stdout a pipe for records. Nothing can
be opened here: neither by FFmpeg, whatever the file refers to, nor by whoever takes this process
over.
"""

from contextlib import AbstractContextManager
from fractions import Fraction
from typing import Any

import av

from worker_vm.pipelines.frames.records import Record, send
from worker_vm.pipelines.frames.request import Request
from worker_vm.pipelines.frames.sender import FrameSender, Timeline
from worker_vm.sandbox import confine, limits_from_argv, request_from_argv
from worker_vm.video.clock import FrameClock
from worker_vm.video.log_watch import LogWatch
from worker_vm.video.pictures import Look, warm_up
from worker_vm.video.problems import VideoCode, VideoError
from worker_vm.video.sampling import Sample, Selector, Wish, settle_all
from worker_vm.video.scanning import (
    PacketTable,
    check_duration,
    ends_early,
    frame_ticks,
    promised_seconds,
    scan,
)
from worker_vm.video.selective import decode_all, decode_planned, plan, plan_keyframes
from worker_vm.video.source import (
    Source,
    VideoReader,
    load_decoders,
    open_reader,
    open_source,
)

_STDIN, _STDOUT = 0, 1
_CONCEALED = "parts of pictures cannot be decoded"


class _DamagedError(Exception):
    """What came out is not what was wanted."""


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

    def run(self) -> None:
        """Tell of the video, its frames, its previews and how it went.

        Raises:
            VideoError: it cannot be read as asked.
        """
        with self._open() as source:
            table = self._scan(source)
            facts = _describe(source, table, self._request.media_type)
        send(_STDOUT, Record("source", facts))
        how, sender = self._decode(table)
        sender.finish()
        send(_STDOUT, Record("done", {"how": how, "damage": self._damage, "seen": sender.seen}))

    def _open(self, *, strict: bool = False) -> AbstractContextManager[Source]:
        return open_source(
            self._reader,
            self._request.media_type,
            max_pixels=self._request.max_pixels,
            threads=self._threads,
            strict=strict,
        )

    def _scan(self, source: Source) -> PacketTable:
        """The packets, unless they already tell that the video is not to be decoded."""
        request = self._request
        check_duration(source, 0, self._wish.end, request.max_seconds)
        table = scan(source)
        if not table.ticks:
            raise VideoError(
                VideoCode.NO_VIDEO_STREAM, "The video has not one picture in it. Send another file."
            )
        check_duration(source, table.end, self._wish.end, request.max_seconds)
        early = ends_early(source, table)
        broken = "some of its data cannot be read" if table.damaged else None
        self._damage = [reason for reason in (broken, early) if reason]
        if self._damage and not request.partial:
            raise _corrupt(self._damage[0])
        return table

    def _decode(self, table: PacketTable) -> tuple[str, FrameSender]:
        """Make all frames, somehow; how it was done, and who has sent them."""
        if table.complete:
            try:
                return "selective", self._decode_selectively(table)
            except MemoryError:
                raise
            except (av.FFmpegError, _DamagedError):
                send(_STDOUT, Record("restart", {}))
        try:
            return "full", self._decode_all(table, lenient=False)
        except MemoryError:
            raise
        except (av.FFmpegError, _DamagedError) as error:
            if not self._request.partial or self._watch.too_large:
                raise _corrupt(_reason(error)) from error
        send(_STDOUT, Record("restart", {}))
        return "partial", self._decode_all(table, lenient=True)

    def _begin(self, source: Source, table: PacketTable) -> tuple[Selector, FrameSender]:
        self._watch.concealed = False
        selector = Selector(self._wish, source.time_base)
        timeline = Timeline(selector, source.time_base, table.end)
        previews = frozenset(self._request.previews)
        return selector, FrameSender(_STDOUT, _look(self._request), previews, timeline)

    def _decode_selectively(self, table: PacketTable) -> FrameSender:
        keyframes = self._wish.sample is Sample.KEYFRAMES
        with self._open(strict=True) as source:
            selector, sender = self._begin(source, table)
            shown = sorted(table.shown_keys()) if keyframes else table.shown()
            missing = dict(settle_all(selector, shown, table.end))
            if not missing:
                raise _nothing_wanted()
            chosen = (plan_keyframes if keyframes else plan)(table, missing.keys())
            for frame in decode_planned(source, chosen):
                if frame.pts is None:
                    raise _DamagedError("a picture does not say when it is shown")
                tick = frame.pts - source.origin
                if tick not in missing:
                    continue
                moments = missing.pop(tick)
                if frame.is_corrupt:
                    raise _DamagedError("a picture is damaged")
                sender.send(frame, tick, moments)
        if missing:
            raise _DamagedError("a wanted picture is missing")
        if self._watch.concealed:
            raise _DamagedError(_CONCEALED)
        return sender

    def _decode_all(self, table: PacketTable, *, lenient: bool) -> FrameSender:
        found: set[str] = set()
        with self._open(strict=not lenient) as source:
            selector, sender = self._begin(source, table)
            step = frame_ticks(source)
            clock = FrameClock(source.origin, step, suspicious=table.in_decoding_order)
            before: tuple[Any, int] | None = None
            for frame in decode_all(source, lenient=lenient, errors=found):
                tick = clock.tick(frame)
                if self._wish.sample is Sample.KEYFRAMES and not frame.key_frame:
                    continue
                if before:
                    sender.send(*before, selector.settle(before[1], tick))
                before = frame, tick
                if selector.done:
                    break
            if before and not selector.done:
                end = before[1] + (before[0].duration or step)
                sender.send(*before, selector.settle(before[1], end))
        if self._watch.concealed:
            found.add(_CONCEALED)
        if found and not lenient:
            raise _DamagedError(min(found))
        if not sender.sent:
            raise _nothing_wanted() if before else _corrupt("no picture can be decoded")
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


def _describe(source: Source, table: PacketTable, media_type: str) -> dict[str, Any]:
    """What the manifest says of the video."""
    stream, promised = source.stream, promised_seconds(source)
    context = stream.codec_context
    return {
        "media_type": media_type,
        "container": source.container.format.name,
        "codec": context.name,
        "profile": str(context.profile or ""),
        "pixel_format": str(context.pix_fmt or ""),
        "width": context.width,
        "height": context.height,
        "sample_aspect_ratio": str(stream.sample_aspect_ratio or "1"),
        "frame_rate": round(float(stream.average_rate or 0), 6),
        "duration_s": round(float(table.end * source.time_base), 6),
        "claimed_duration_s": None if promised is None else round(float(promised), 6),
        "start_s": round(float(source.origin * source.time_base), 6),
        "packets": len(table.ticks),
        "keyframes": sum(table.keys),
    }


def _reason(error: Exception) -> str:
    if isinstance(error, _DamagedError):
        return str(error)
    return f"FFmpeg says: {getattr(error, 'strerror', None) or type(error).__name__}"


def _corrupt(reason: str) -> VideoError:
    return VideoError(
        VideoCode.CORRUPT_INPUT,
        f"The video is damaged or cut short: {reason}. Send it again; on_damage partial takes what"
        " can still be read.",
    )


def _explain(error: Exception, reader: VideoReader, watch: LogWatch) -> VideoError:
    """What an exception of FFmpeg or Python means for the user."""
    if watch.too_large:
        return VideoError(
            VideoCode.RESOLUTION_LIMIT,
            "The video, or a picture in it, has more pixels than are taken. Send a smaller one.",
        )
    if isinstance(error, VideoError):
        return error
    if isinstance(error, MemoryError):
        return VideoError(
            VideoCode.MEMORY_LIMIT,
            "Decoding the video needs more memory than allowed. Send one with fewer pixels.",
        )
    if reader.failure is not None:
        return VideoError(VideoCode.INPUT_READ_ERROR, "The video could not be read to its end.")
    if isinstance(error, av.error.InvalidDataError | av.error.EOFError):
        return _corrupt(_reason(error))
    return VideoError(
        VideoCode.FFMPEG_CODEC_ERROR,
        f"The video is coded in a way that cannot be decoded here ({_reason(error)}); convert it to"
        " H.264.",
    )


def main() -> None:
    """Decode stdin to stdout, confined."""
    request = Request.from_json(request_from_argv())
    load_decoders()
    warm_up()
    reader = open_reader(_STDIN, request.size_bytes)
    watch = LogWatch()
    watch.listen()
    threads = confine(limits_from_argv())
    try:
        Decoder(request, reader, watch, threads).run()
    except BrokenPipeError:
        return
    except Exception as error:  # noqa: BLE001  (decoders raise nearly everything on broken files)
        problem = _explain(error, reader, watch)
        facts = {"code": problem.code.value, "message": problem.message}
        send(_STDOUT, Record("error", facts))


if __name__ == "__main__":
    main()
