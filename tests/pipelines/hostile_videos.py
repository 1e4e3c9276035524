"""Files that are no videos, or worse. Each function writes one and says what it is."""

import io
import random
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image
from video_clips import CLIPS, Clip, drawn_frames

PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n"
CONCAT = b"ffconcat version 1.0\nfile '/etc/hostname'\nfile 'h264-b-frames.mp4'\n"
SESSION = (
    b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
)
MANIFEST = b"<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'></MPD>"
PROGRAM_STREAM = bytes.fromhex("000001ba44000400040100000303f8") + bytes(5000)
LETTERS = b"G".ljust(188, b".") * 4
"""Too few packets of a transport stream to be one."""
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(100)


def of_bytes(content: bytes) -> Callable[[Path], Path]:
    """A file of exactly these bytes."""

    def write(path: Path) -> Path:
        path.write_bytes(content)
        return path

    return write


def of_clip(
    clip: Clip, change: Callable[[bytes], bytes] = lambda file: file
) -> Callable[[Path], Path]:
    """A clip whose file is changed."""

    def write(path: Path) -> Path:
        made = clip.write(path.with_suffix(f".made.{clip.suffix}"))
        path.write_bytes(change(made.read_bytes()))
        return path

    return write


def random_bytes(path: Path) -> Path:
    """Nothing at all."""
    path.write_bytes(random.Random(1).randbytes(100_000))  # noqa: S311
    return path


def random_in_mp4(path: Path) -> Path:
    """The right first bytes and nothing behind them."""
    head = b"\0\0\0\x18ftypisom\0\0\2\0isomiso2"
    path.write_bytes(head + random.Random(2).randbytes(100_000))  # noqa: S311
    return path


def random_in_ts(path: Path) -> Path:
    """Packets that begin as they should, and nothing in them."""
    rng = random.Random(4)  # noqa: S311
    path.write_bytes(b"".join(b"G" + rng.randbytes(187) for _ in range(500)))
    return path


def sound_only(path: Path) -> Path:
    """An MP4 without pictures."""
    with av.open(path, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=48000, layout="mono")
        for number in range(50):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            frame.rate = 48000
            frame.pts = number * 1024
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def subtitles_only(path: Path) -> Path:
    """A Matroska file of subtitles, written by hand (Matroska, RFC 9559)."""

    def element(identifier: str, *parts: bytes) -> bytes:
        body = b"".join(parts)
        return bytes.fromhex(identifier) + (len(body) | 1 << 28).to_bytes(4, "big") + body

    head = element("1A45DFA3", element("4282", b"matroska"), element("4287", b"\x04"))
    track = element(
        "AE",
        element("D7", b"\x01"),
        element("73C5", b"\x01"),
        element("83", b"\x11"),
        element("86", b"S_TEXT/UTF8"),
    )
    block = element("A0", element("A1", b"\x81\0\0\0hello"), element("9B", b"\x64"))
    segment = element(
        "18538067",
        element("1549A966", element("2AD7B1", (1_000_000).to_bytes(3, "big"))),
        element("1654AE6B", track),
        element("1F43B675", element("E7", b"\0"), block),
    )
    path.write_bytes(head + segment)
    return path


def no_frames(path: Path) -> Path:
    """A video track, and not one picture in it."""
    moov_only = {"movflags": "empty_moov+frag_keyframe"}
    made = Clip("libx264", muxer=moov_only, frames=2).write(path.with_suffix(".made.mp4"))
    file = made.read_bytes()
    path.write_bytes(file[: file.index(b"moof") - 4])
    return path


def claimed_size(path: Path) -> Path:
    """A container that says 16000 x 16000, around pictures of 160 x 96."""
    small = Clip("mpeg4", "mkv", frames=2).write(path.with_suffix(".made.mkv")).read_bytes()
    wide = small.replace(b"\xb0\x81\xa0", b"\xb0\x82\x3e\x80")
    assert wide != small
    large = wide.replace(b"\xba\x81\x60", b"\xba\x82\x3e\x80")
    # The lengths of the elements around are wrong now; FFmpeg reads on all the same.
    path.write_bytes(large)
    return path


def pixel_bomb(path: Path) -> Path:
    """Pictures of 16000 x 16000 in few bytes."""
    picture = io.BytesIO()
    Image.new("L", (16000, 16000)).save(picture, "JPEG", quality=10)
    with av.open(path, "w", format="matroska") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 16000, 16000, "yuvj420p"
        for number in range(3):
            packet = av.Packet(picture.getvalue())
            packet.stream, packet.time_base = stream, Fraction(1, 25)
            packet.pts = packet.dts = number
            packet.is_keyframe = True
            container.mux(packet)
    return path


def growing(path: Path) -> Path:
    """A file whose header says 160 x 96 and whose later pictures are far larger."""
    with av.open(path, "w", format="matroska") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuvj420p"
        for frame in drawn_frames(30, (160, 96), "yuvj420p"):
            container.mux(stream.encode(frame))
        larger = av.CodecContext.create("mjpeg", "w")
        larger.width, larger.height, larger.pix_fmt = 6400, 6400, "yuvj420p"
        larger.time_base = Fraction(1, 1000)
        for at in (1240, 1400, 1600):
            huge = av.VideoFrame(6400, 6400, "yuvj420p")
            huge.pts, huge.time_base = at, Fraction(1, 1000)
            for packet in larger.encode(huge):
                packet.stream = stream
                container.mux(packet)
    return path


def truncated_at_the_end(file: bytes) -> bytes:
    """An MP4 without the table that stands at its end."""
    return file[: len(file) * 2 // 3]


def half(file: bytes) -> bytes:
    """The first half."""
    return file[: len(file) // 2]


def rotten(file: bytes) -> bytes:
    """A bit flipped every few hundred bytes, the headers excepted."""
    rng = random.Random(3)  # noqa: S311
    damaged = bytearray(file)
    for place in range(len(file) // 4, len(file) * 3 // 4, 97):
        damaged[place] ^= 1 << rng.randrange(8)
    return bytes(damaged)


_FIRST = {"movflags": "faststart"}
_X264 = CLIPS["h264-b-frames"].options
LONG = Clip("libx264", options=_X264, frames=3, times=lambda n: n * 5 * 3600 * 1000)
GAP = Clip("libx264", "mkv", options=_X264, frames=4, times=lambda n: (0, 40, 80, 4_000_000)[n])
MOVING = Clip("libx264", options=_X264, muxer=_FIRST)

HOSTILE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "empty": (of_bytes(b""), "EMPTY_INPUT"),
    "playlist": (of_bytes(PLAYLIST), "UNSUPPORTED_CONTAINER"),
    "concat": (of_bytes(CONCAT), "UNSUPPORTED_CONTAINER"),
    "session": (of_bytes(SESSION), "UNSUPPORTED_CONTAINER"),
    "dash": (of_bytes(MANIFEST), "UNSUPPORTED_CONTAINER"),
    "picture": (of_bytes(PICTURE), "UNSUPPORTED_CONTAINER"),
    "random": (random_bytes, "UNSUPPORTED_CONTAINER"),
    "program-stream": (of_bytes(PROGRAM_STREAM), "UNSUPPORTED_CONTAINER"),
    "letters": (of_bytes(LETTERS), "UNSUPPORTED_CONTAINER"),
    "random-in-ts": (random_in_ts, "CORRUPT_INPUT"),
    "rotten-ts": (of_clip(CLIPS["mpegts"], rotten), "CORRUPT_INPUT"),
    "random-in-mp4": (random_in_mp4, "CORRUPT_INPUT"),
    "head-only": (of_bytes(b"\0\0\0\x18ftypisom\0\0\2\0isomiso2"), "CORRUPT_INPUT"),
    "sound-only": (sound_only, "NO_VIDEO_STREAM"),
    "subtitles-only": (subtitles_only, "NO_VIDEO_STREAM"),
    "no-frames": (no_frames, "NO_VIDEO_STREAM"),
    "claimed-size": (claimed_size, "RESOLUTION_LIMIT"),
    "pixel-bomb": (pixel_bomb, "RESOLUTION_LIMIT"),
    "growing": (growing, "RESOLUTION_LIMIT"),
    "ten-hours": (of_clip(LONG), "DURATION_LIMIT"),
    "gap": (of_clip(GAP), "FRAME_LIMIT"),
    "without-table": (of_clip(CLIPS["h264-b-frames"], truncated_at_the_end), "CORRUPT_INPUT"),
    "truncated-mp4": (of_clip(MOVING, half), "CORRUPT_INPUT"),
    "truncated-mkv": (of_clip(Clip("libx264", "mkv", options=_X264), half), "CORRUPT_INPUT"),
    "rotten": (of_clip(MOVING, rotten), "CORRUPT_INPUT"),
    "rotten-hevc": (
        of_clip(Clip("libx265", options=CLIPS["hevc"].options, muxer=_FIRST), rotten),
        "CORRUPT_INPUT",
    ),
    "rotten-asp": (of_clip(Clip("mpeg4", "avi", options={"bf": "2"}), rotten), "CORRUPT_INPUT"),
    "rotten-vp9": (of_clip(CLIPS["vp9"], rotten), "CORRUPT_INPUT"),
}
