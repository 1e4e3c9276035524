"""Small videos of every kind, made on the spot, and what FFmpeg itself makes of them."""

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.filter import Graph

RATE = 25
FRAMES = 90


@dataclass(frozen=True)
class Clip:
    """How a clip is made."""

    codec: str
    suffix: str = "mp4"
    size: tuple[int, int] = (160, 96)
    pixels: str = "yuv420p"
    options: Mapping[str, str] = field(default_factory=dict)
    muxer: Mapping[str, str] = field(default_factory=dict)
    times: Callable[[int], int] | None = None
    """When frame n is shown, in milliseconds; regularly if None."""
    patch: Callable[[bytes], bytes] | None = None
    """What is changed in the file afterwards."""
    frames: int = FRAMES

    def write(self, path: Path) -> Path:
        """Make it."""
        with av.open(path, "w", format=self._format(), options=dict(self.muxer)) as container:
            stream = container.add_stream(self.codec, rate=RATE, options=dict(self.options))
            stream.width, stream.height = self.size
            stream.pix_fmt = self.pixels
            if self.times:
                stream.codec_context.time_base = Fraction(1, 1000)
            for frame in drawn_frames(self.frames, self.size, self.pixels):
                if self.times:
                    frame.time_base = Fraction(1, 1000)
                    frame.pts = self.times(frame.pts)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        if self.patch:
            path.write_bytes(self.patch(path.read_bytes()))
        return path

    def _format(self) -> str | None:
        return {"wmv": "asf", "mkv": "matroska", "ts": "mpegts"}.get(self.suffix)


def drawn_frames(count: int, size: tuple[int, int], pixels: str) -> Iterator[av.VideoFrame]:
    """Noise that moves, with a bar that tells the number: no two frames are alike."""
    width, height = size
    rng = np.random.default_rng(1)
    ground = rng.integers(0, 255, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
    ground = ground.repeat(8, 0).repeat(8, 1)[:height, :width]
    for number in range(count):
        picture = np.roll(ground, (number, 3 * number), (0, 1)).copy()
        picture[: height // 4, : 1 + number * (width - 1) // count] = (255, 255, 255)
        picture[height // 2, :, :] = number * 2 % 255
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixels)
        frame.pts = number
        frame.time_base = Fraction(1, RATE)
        yield frame


def turned(file: bytes) -> bytes:
    """An MP4 that is to be shown turned by a quarter, clockwise."""
    matrix = b"".join(
        value.to_bytes(4, "big", signed=True)
        for value in (0, 1 << 16, 0, -(1 << 16), 0, 0, 96 << 16, 0, 1 << 30)
    )
    place = file.index(b"tkhd") + 4 + 40
    return file[:place] + matrix + file[place + 36 :]


def cut_by_edit_list(file: bytes) -> bytes:
    """An MP4 whose first second is decoded but not shown."""
    place = file.index(b"elst") + 4 + 8 + 4
    start = int.from_bytes(file[place : place + 4], "big", signed=True)
    second = int.from_bytes(file[file.index(b"mdhd") + 16 :][:4], "big")
    return file[:place] + (start + second).to_bytes(4, "big", signed=True) + file[place + 4 :]


def ended_by_edit_list(file: bytes) -> bytes:
    """An MP4 of which only the first second is shown, as telephones trim their videos."""
    place = file.index(b"elst") + 4 + 8
    return file[:place] + (1000).to_bytes(4, "big") + file[place + 4 :]


_X264 = {"preset": "veryfast", "x264-params": "keyint=30:bframes=3:b-adapt=0:scenecut=0"}
_OPEN = {"preset": "veryfast", "x264-params": "keyint=30:bframes=3:open-gop=1:scenecut=0"}
_X265 = {"preset": "ultrafast", "x265-params": "keyint=30:bframes=3:pools=1:log-level=none"}
_LONG = {"preset": "veryfast", "x264-params": "keyint=250:bframes=3:b-pyramid=normal:scenecut=0"}


def jumpy(number: int) -> int:
    """Frames that come at 30, 7 and 1 a second."""
    return (
        number * 33
        if number < 30
        else 1000 + (number - 30) * 141
        if number < 50
        else (4000 + (number - 50) * 350)
    )


CLIPS: dict[str, Clip] = {
    "h264-b-frames": Clip("libx264", options=_X264),
    "h264-long-gop": Clip("libx264", options=_LONG),
    "h264-open-gop": Clip("libx264", "mkv", options=_OPEN),
    "h264-open-gop-mp4": Clip("libx264", options=_OPEN),
    "h264-444-odd": Clip("libx264", "mkv", (161, 97), "yuv444p", options=_X264),
    "h264-in-flv": Clip("libx264", "flv", options=_X264),
    "h264-in-avi": Clip("libx264", "avi", options=_X264),
    "hevc": Clip("libx265", options=_X265),
    "hevc-10-bit": Clip("libx265", "mkv", pixels="yuv420p10le", options=_X265),
    "vp9": Clip("libvpx-vp9", "webm", options={"deadline": "realtime", "cpu-used": "8", "g": "30"}),
    "vp9-odd": Clip("libvpx-vp9", "webm", (161, 97), options={"deadline": "realtime", "g": "30"}),
    "mpeg4-asp-avi": Clip("mpeg4", "avi", options={"bf": "2", "g": "30"}),
    "mpeg4-asp-mp4": Clip("mpeg4", "mp4", options={"bf": "2", "g": "30"}),
    "mpeg2-mkv": Clip("mpeg2video", "mkv", options={"bf": "2", "g": "15"}),
    "wmv2": Clip("wmv2", "wmv", options={"g": "30"}),
    "flv": Clip("flv", "flv", options={"g": "30"}),
    "prores": Clip("prores_ks", "mov", pixels="yuv422p10le"),
    "mjpeg-mov": Clip("mjpeg", "mov", pixels="yuvj420p"),
    "vfr": Clip("libx264", options=_X264, times=jumpy),
    "vfr-mkv": Clip("libx264", "mkv", options=_OPEN, times=jumpy),
    "late-start": Clip("libx264", "mkv", options=_X264, times=lambda n: 5000 + 40 * n),
    "interlaced": Clip(
        "libx264", "mkv", options={"preset": "veryfast", "x264-params": "keyint=30:tff=1"}
    ),
    "rotated": Clip("libx264", options=_X264, patch=turned),
    "edit-list": Clip("libx264", options=_X264, patch=cut_by_edit_list),
    "edit-list-end": Clip("libx264", options=_X264, patch=ended_by_edit_list),
    "fragmented": Clip(
        "libx264", options=_X264, muxer={"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    ),
    "moov-first": Clip("libx264", options=_X264, muxer={"movflags": "faststart"}),
    "mpegts": Clip("libx264", "ts", options=_X264),
    "mpegts-open-gop": Clip("libx264", "ts", options=_OPEN),
    "mpegts-hevc": Clip("libx265", "ts", options=_X265),
    "mpegts-mpeg2": Clip("mpeg2video", "ts", options={"bf": "2", "g": "15"}),
    "m2ts": Clip("libx264", "ts", options=_X264, muxer={"mpegts_m2ts_mode": "1"}),
    "short": Clip("libx264", options=_X264, frames=4),
    "one-frame": Clip("libx264", options=_X264, frames=1),
}


HDR = Clip(
    "libx265",
    "mkv",
    pixels="yuv420p10le",
    options={
        "preset": "ultrafast",
        "x265-params": "pools=1:log-level=none:transfer=smpte2084:colorprim=bt2020:"
        "colormatrix=bt2020nc",
    },
    frames=3,
)
"""Coded by the PQ curve."""


def digest(picture: np.ndarray) -> str:
    """What tells two pictures apart."""
    return hashlib.md5(np.ascontiguousarray(picture).tobytes()).hexdigest()  # noqa: S324


@dataclass(frozen=True)
class Truth:
    """A frame of a full decode: when it is shown, and its MD5."""

    seconds: Fraction
    md5: str


def decode_fully(path: Path) -> Iterator[tuple[av.VideoFrame, Fraction]]:
    """Every frame and when it is shown, from the container's start, as the FFmpeg program does."""
    with av.open(path) as container:
        start = Fraction(container.start_time or 0, 1_000_000)
        # Of H.264 an AVI knows only when it is decoded, and of its last frames not even that.
        odd = container.format.name == "avi" and container.streams.video[0].codec.name == "h264"
        before = 0
        for frame in container.decode(video=0):
            pts = frame.pts
            if odd:
                pts = before + 1 if frame.dts is None else frame.dts
            before = pts
            frame.pts = pts - round(start / frame.time_base)
            yield frame, frame.pts * frame.time_base


def all_frames(path: Path) -> list[Truth]:
    """Every frame of a full decode."""
    return [Truth(at, digest(_rgb(frame))) for frame, at in decode_fully(path)]


def by_fps_filter(path: Path, fps: str) -> list[str]:
    """What FFmpeg's own filter `fps` picks of a full decode."""
    found: list[str] = []
    graph = source = sink = None
    for frame, _ in decode_fully(path):
        if graph is None:
            graph = Graph()
            source = graph.add_buffer(
                width=frame.width,
                height=frame.height,
                format=frame.format,
                time_base=frame.time_base,
            )
            rate, sink = graph.add("fps", f"fps={fps}"), graph.add("buffersink")
            source.link_to(rate)
            rate.link_to(sink)
            graph.configure()
        graph.push(frame)
        found.extend(_pulled(graph))
    graph.push(None)
    return [*found, *_pulled(graph)]


def on_screen(frames: list[Truth], at: Fraction) -> Truth:
    """The frame that is shown at a moment."""
    return frames[max(bisect_right([frame.seconds for frame in frames], at) - 1, 0)]


def _pulled(graph: Graph) -> Iterator[str]:
    while True:
        try:
            yield digest(_rgb(graph.pull()))
        except (av.error.BlockingIOError, av.error.EOFError):
            return


def _rgb(frame: Any) -> np.ndarray:
    return frame.reformat(format="rgb24").to_ndarray()
