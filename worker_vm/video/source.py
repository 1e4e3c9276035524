"""Opening a hostile video: known containers only, nothing but its own bytes, bounded pictures."""

import pkgutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from importlib import import_module
from typing import Any

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from contract import containers
from worker_vm.video.outline import OutlineReader, find_packets
from worker_vm.video.problems import VideoCode, VideoError
from worker_vm.video.reader import VideoReader

FORMATS = {
    containers.MP4: "mov",
    containers.QUICKTIME: "mov",
    containers.MATROSKA: "matroska",
    containers.WEBM: "matroska",
    containers.AVI: "avi",
    containers.ASF: "asf",
    containers.FLV: "flv",
    containers.MPEG_TS: "mpegts",
}
_WHITELIST = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,asf,flv,mpegts"
_BUFFER_BYTES = 1 << 20
# Of these an MP4's table says of each packet what there is to know.
_TOLD_BY_TABLE = frozenset({"h264", "hevc"})
_NOT_FOR_DECODING = frozenset({"av.__main__", "av.datasets"})
_MICROSECOND = Fraction(1, 1_000_000)


@dataclass(frozen=True)
class Source:
    """An opened video."""

    container: InputContainer
    stream: VideoStream
    origin: int
    """The container's start, in ticks of the stream."""

    @property
    def time_base(self) -> Fraction:
        """Seconds a tick."""
        return self.stream.time_base or Fraction(1, 1000)

    def packets(self) -> Iterator[Any]:
        """The video's packets. An empty one would end decoding early, so there are none.

        Raises:
            av.FFmpegError: the file is damaged.
        """
        return (packet for packet in self.container.demux(self.stream) if packet.size)


@contextmanager
def open_source(
    reader: VideoReader,
    media_type: str,
    *,
    max_pixels: int,
    threads: int,
    strict: bool = False,
    parse: bool = True,
) -> Iterator[Source]:
    """Open a video from its beginning.

    Args:
        reader: its bytes.
        media_type: as its first bytes tell; no other format is tried.
        max_pixels: of one picture.
        threads: of the decoder.
        strict: whether the decoder is to refuse what it would otherwise paint over.
        parse: whether packets are looked into before they are decoded.

    Raises:
        VideoError: it has no video, more pixels than allowed, or no decoder.
        av.FFmpegError: it is damaged.
    """
    reader.seek(0)
    with av.open(
        reader,
        format=FORMATS[media_type],
        options={"max_pixels": str(max_pixels), "threads": "1"},
        container_options={
            "format_whitelist": _WHITELIST,
            "protocol_whitelist": "none",
            **({} if parse else {"fflags": "+noparse"}),
        },
        buffer_size=_BUFFER_BYTES,
        metadata_errors="replace",
    ) as container:
        stream = _choose(container)
        _check_size(stream.codec_context.width, stream.codec_context.height, max_pixels)
        rules = {"max_pixels": str(max_pixels)}
        stream.codec_context.options = {**rules, "err_detect": "explode"} if strict else rules
        stream.codec_context.thread_count = threads
        if threads > 1:
            stream.codec_context.thread_type = "AUTO"
        start = container.start_time or 0
        origin = round_away(start * _MICROSECOND / (stream.time_base or _MICROSECOND))
        yield Source(container, stream, origin)


@contextmanager
def open_outline(reader: VideoReader, media_type: str, *, max_pixels: int) -> Iterator[Source]:
    """Open a video to go through its packets, which need not be read if its table tells of them.

    Raises:
        VideoError, av.FFmpegError: as `open_source` does.
    """
    packets = find_packets(reader) if FORMATS[media_type] == "mov" else ()
    if packets:
        outline = OutlineReader(reader, packets)
        with open_source(
            outline, media_type, max_pixels=max_pixels, threads=1, parse=False
        ) as source:
            if source.stream.codec_context.name in _TOLD_BY_TABLE:
                outline.leaves_out = True
                yield source
                return
    with open_source(reader, media_type, max_pixels=max_pixels, threads=1) as source:
        yield source


def round_away(value: Fraction) -> int:
    """The nearest whole number, halves away from zero."""
    nearest = (2 * abs(value.numerator) + value.denominator) // (2 * value.denominator)
    return nearest if value >= 0 else -nearest


def _choose(container: InputContainer) -> VideoStream:
    """The first stream of moving pictures; a cover picture is none."""
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            if stream.codec_context is None:
                raise VideoError(
                    VideoCode.FFMPEG_CODEC_ERROR,
                    "The video is coded in a way that cannot be decoded here; convert it to H.264.",
                )
            return stream
    raise VideoError(
        VideoCode.NO_VIDEO_STREAM,
        "The file has no video in it, only sound, subtitles or nothing. Send another file.",
    )


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise VideoError(
            VideoCode.RESOLUTION_LIMIT,
            f"The video has {width} x {height} pixels; at most {max_pixels} in all are taken."
            " Send a smaller one.",
        )


def load_decoders() -> None:
    """Import all of PyAV, which else imports parts of itself when a file asks for them."""
    for module in pkgutil.walk_packages(av.__path__, "av."):
        if module.name not in _NOT_FOR_DECODING:
            import_module(module.name)
