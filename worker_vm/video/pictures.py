"""A decoded frame as a picture file."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.filter import Graph
from numpy.typing import NDArray
from PIL import (
    Image,
    # Named, so that they are loaded before files can't be opened any more.
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    WebPImagePlugin,  # noqa: F401
)

from worker_vm.video import tonemapping
from worker_vm.video.problems import VideoCode, VideoError

_QUARTERS = {
    90: Image.Transpose.ROTATE_90,
    180: Image.Transpose.ROTATE_180,
    270: Image.Transpose.ROTATE_270,
}


@dataclass(frozen=True)
class Look:
    """How pictures should be."""

    format: str
    """jpg, png or webp."""
    quality: int
    """1 to 100, of jpg and webp."""
    max_width: int | None
    autorotate: bool
    tonemap: bool
    deinterlace: bool
    max_pixels: int


class PictureMaker:
    """Turns frames into pictures: woven fields apart, upright, not too wide, in sRGB."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self.seen: dict[str, Any] = {}
        """What the frames were found to be."""

    def picture(self, frame: Any) -> Image.Image:
        """The frame as it should be looked at.

        Raises:
            VideoError: RESOLUTION_LIMIT, it is larger than allowed.
        """
        frame, turn = self.prepared(frame)
        width, height = self._size(frame.width, frame.height, sideways=turn in {90, 270})
        image = self._to_srgb(frame, width, height)
        return image.transpose(_QUARTERS[turn]) if turn in _QUARTERS else image

    def prepared(self, frame: Any) -> tuple[Any, int]:
        """The frame without combs, and by how many degrees it is to be turned, anticlockwise.

        Raises:
            VideoError: RESOLUTION_LIMIT, it is larger than allowed.
        """
        look = self._look
        if frame.width * frame.height > look.max_pixels:
            raise VideoError(
                VideoCode.RESOLUTION_LIMIT,
                f"A frame has {frame.width} x {frame.height} pixels; at most {look.max_pixels} in"
                " all are taken. Send a smaller video.",
            )
        turn = round(frame.rotation) % 360 if look.autorotate else 0
        self._note(frame)
        if look.deinterlace and frame.interlaced_frame:
            frame = _deinterlaced(frame)
        return frame, turn

    def encode(self, image: Image.Image) -> bytes:
        """The picture as a file."""
        out = io.BytesIO()
        if self._look.format == "png":
            image.save(out, "PNG", compress_level=1)
        elif self._look.format == "webp":
            image.save(out, "WEBP", quality=self._look.quality, method=2)
        else:
            image.save(out, "JPEG", quality=self._look.quality)
        return out.getvalue()

    def _size(self, width: int, height: int, *, sideways: bool) -> tuple[int, int]:
        """Width and height in the frame's own orientation."""
        shown = height if sideways else width
        if self._look.max_width is None or shown <= self._look.max_width:
            return width, height
        scale = Fraction(self._look.max_width, shown)
        return max(round(width * scale), 1), max(round(height * scale), 1)

    def _to_srgb(self, frame: Any, width: int, height: int) -> Image.Image:
        how: dict[str, Any] = {"width": width, "height": height}
        if (width, height) != (frame.width, frame.height):
            how["interpolation"] = "AREA"
        if self._look.tonemap and tonemapping.is_hdr(int(frame.color_trc)):
            return Image.fromarray(tone_mapped(frame, how))
        # Pixels of four bytes are taken over as they lie in memory, in half the time; the JPEG is
        # the same, byte by byte. The other formats want three.
        pixels, mode = ("rgb0", "RGBX") if self._look.format == "jpg" else ("rgb24", "RGB")
        plain = frame.reformat(format=pixels, **how)
        plane = plain.planes[0]
        return Image.frombuffer(
            mode, (plain.width, plain.height), plane, "raw", mode, plane.line_size, 1
        )

    def _note(self, frame: Any) -> None:
        self.seen.setdefault("rotation", round(frame.rotation))
        self.seen["interlaced"] = self.seen.get("interlaced", False) or bool(frame.interlaced_frame)
        self.seen.setdefault("hdr", tonemapping.is_hdr(int(frame.color_trc)))


def tone_mapped(frame: Any, how: Mapping[str, Any]) -> NDArray[np.uint8]:
    """A frame of high dynamic range as sRGB, [height, width, 3].

    Args:
        frame: as it was decoded.
        how: its new size, for `reformat`.
    """
    deep = frame.reformat(format="rgb48le", **how).to_ndarray()
    wide = int(frame.color_primaries) == tonemapping.BT2020
    return tonemapping.tone_map(deep.astype(np.uint16), int(frame.color_trc), wide=wide)


def _deinterlaced(frame: Any) -> Any:
    """The frame without combs. Its neighbours may not be decoded, so it has to do by itself."""
    graph = Graph()
    source = graph.add_buffer(
        width=frame.width,
        height=frame.height,
        format=frame.format,
        time_base=frame.time_base or Fraction(1, 1000),
    )
    bwdif = graph.add("bwdif", "mode=send_frame:deint=all")
    sink = graph.add("buffersink")
    source.link_to(bwdif)
    bwdif.link_to(sink)
    graph.configure()
    graph.push(frame)
    graph.push(None)
    return graph.pull()


def warm_up() -> None:
    """Have everything in memory that making pictures needs, while files can still be opened."""
    Image.preinit()
    tonemapping.warm_up()
    frame = av.VideoFrame(32, 32, "yuv420p")
    for kind in ("jpg", "png", "webp"):
        maker = PictureMaker(Look(kind, 90, 16, True, True, True, 1 << 20))  # noqa: FBT003
        maker.encode(maker.picture(frame))
