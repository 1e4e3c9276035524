"""What the confined children that read videos have in common.

Stdin is the file, or a connection over which it is read, and stdout a pipe for records. Nothing can
be opened here: neither by FFmpeg, whatever the file refers to, nor by whoever takes this process
over.
"""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av

from worker_vm.sandbox import confine, limits_from_argv
from worker_vm.video.log_watch import LogWatch
from worker_vm.video.problems import VideoCode, VideoError
from worker_vm.video.reader import VideoReader, open_reader
from worker_vm.video.records import Record, send
from worker_vm.video.scanning import (
    PacketTable,
    check_duration,
    ends_early,
    promised_seconds,
    scan,
)
from worker_vm.video.settings import THREADS_BESIDE_DECODERS
from worker_vm.video.source import Source, load_decoders

STDOUT = 1
CONCEALED = "parts of pictures cannot be decoded"
_STDIN = 0


class DamagedError(Exception):
    """What came out is not what was wanted."""


def serve(
    work: Callable[[VideoReader, LogWatch, int], dict[str, Any]],
    warm_up: Callable[[], None],
    size_bytes: int,
) -> None:
    """Confine this process, do its work, and tell how that went, or why it failed.

    What was left out because it could not be read is no result, even if a damaged video is welcome:
    the next attempt may read it.

    Args:
        work: gets the file, what FFmpeg logs, and how many threads decode; returns what there
            is to say once it is done.
        warm_up: has everything in memory that `work` needs, while files can still be opened.
        size_bytes: of the video.
    """
    load_decoders()
    warm_up()
    reader = open_reader(_STDIN, size_bytes)
    watch = LogWatch()
    watch.listen()
    allowed = confine(limits_from_argv())
    try:
        facts = work(reader, watch, max(allowed - THREADS_BESIDE_DECODERS, 1))
        _require_read(reader)
        send(STDOUT, Record("done", facts))
    except BrokenPipeError:
        return
    except Exception as error:  # noqa: BLE001  (decoders raise nearly everything on broken files)
        problem = explain(error, reader, watch)
        facts = {"code": problem.code.value, "message": problem.message}
        send(STDOUT, Record("error", facts))


def _require_read(reader: VideoReader) -> None:
    if reader.failure is not None:
        raise reader.failure


def read_packets(
    source: Source, *, wanted_until: Fraction | None, max_seconds: int, partial: bool
) -> tuple[PacketTable, list[str]]:
    """The packets, and what is wrong with them.

    Args:
        source: the video.
        wanted_until: where the wanted part ends, in seconds.
        max_seconds: that it may last.
        partial: whether what is left of a damaged video is welcome.

    Raises:
        VideoError: they already tell that the video is not to be decoded.
    """
    check_duration(source, 0, wanted_until, max_seconds)
    table = scan(source)
    if not table.ticks:
        raise VideoError(
            VideoCode.NO_VIDEO_STREAM, "The video has not one picture in it. Send another file."
        )
    check_duration(source, table.end, wanted_until, max_seconds)
    early = ends_early(source, table)
    broken = "some of its data cannot be read" if table.damaged else None
    damage = [reason for reason in (broken, early) if reason]
    if damage and not partial:
        raise corrupt(damage[0])
    return table, damage


def describe(source: Source, table: PacketTable, media_type: str) -> dict[str, Any]:
    """What manifests say of a video."""
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


def reason_of(error: Exception) -> str:
    """What was wrong, to go into a sentence."""
    if isinstance(error, DamagedError):
        return str(error)
    return f"FFmpeg says: {getattr(error, 'strerror', None) or type(error).__name__}"


def corrupt(reason: str) -> VideoError:
    """CORRUPT_INPUT."""
    return VideoError(
        VideoCode.CORRUPT_INPUT,
        f"The video is damaged or cut short: {reason}. Send it again; on_damage partial takes what"
        " can still be read.",
    )


def explain(error: Exception, reader: VideoReader, watch: LogWatch) -> VideoError:
    """What an exception means for the user.

    Args:
        error: of FFmpeg, Python or our own.
        reader: knows whether the file could be read.
        watch: knows what FFmpeg refused.
    """
    if watch.too_large:
        return VideoError(
            VideoCode.RESOLUTION_LIMIT,
            "The video, or a picture in it, has more pixels than are taken. Send a smaller one.",
        )
    if isinstance(error, MemoryError):
        return VideoError(
            VideoCode.MEMORY_LIMIT,
            "Decoding the video needs more memory than allowed. Send one with fewer pixels.",
        )
    # What could not be read looks like a damaged video: the next attempt may read it.
    if reader.failure is not None:
        return VideoError(VideoCode.INPUT_READ_ERROR, "The video could not be read to its end.")
    if isinstance(error, VideoError):
        return error
    if isinstance(error, DamagedError | av.error.InvalidDataError | av.error.EOFError):
        return corrupt(reason_of(error))
    return VideoError(
        VideoCode.FFMPEG_CODEC_ERROR,
        f"The video is coded in a way that cannot be decoded here ({reason_of(error)}); convert it"
        " to H.264.",
    )
