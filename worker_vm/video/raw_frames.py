"""Decoded frames as bare pixels, all of one size: what is analysed and encoded again."""

from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from worker_vm.video import tonemapping
from worker_vm.video.pictures import Look, PictureMaker, tone_mapped

LONGEST_SIDE = 16384
"""Of a frame as it is sent: x264 takes no more."""
_SMALLEST_SIDE = 32
"""Detectors and encoders want something to look at."""


class RawFrames:
    """Turns the frames of a video into pixels, upright, not too large, with even sides.

    The first frame decides the size; what follows is scaled to it, whatever the video does.

    Args:
        max_width: wider frames are scaled down to it, and those higher than LONGEST_SIDE to that.
        max_pixels: of a frame as it is decoded.
    """

    def __init__(self, max_width: int, max_pixels: int) -> None:
        self._max_width = max_width
        self._maker = PictureMaker(
            Look(
                format="",
                quality=0,
                max_width=None,
                autorotate=True,
                tonemap=True,
                deinterlace=True,
                max_pixels=max_pixels,
            )
        )
        self.upright_size = 0, 0
        """Width and height of the first frame, as it is looked at, before it was scaled."""
        self._size = 0, 0

    @property
    def seen(self) -> dict[str, Any]:
        """What the frames were found to be."""
        return self._maker.seen

    def pixels(self, frame: Any) -> NDArray[np.uint8]:
        """The frame, [height, width, 3], blue, green, red.

        Raises:
            VideoError: RESOLUTION_LIMIT, it is larger than allowed.
        """
        frame, turn = self._maker.prepared(frame)
        sideways = turn in {90, 270}
        if not self._size[0]:
            width, height = frame.width, frame.height
            self.upright_size = (height, width) if sideways else (width, height)
            self._size = _even_size(*self.upright_size, self._max_width)
        width, height = self._size[::-1] if sideways else self._size
        how: dict[str, Any] = {"width": width, "height": height}
        if (width, height) != (frame.width, frame.height):
            how["interpolation"] = "AREA"
        if tonemapping.is_hdr(int(frame.color_trc)):
            found = tone_mapped(frame, how)[..., ::-1]
        else:
            found = frame.reformat(format="bgr24", **how).to_ndarray()
        return np.ascontiguousarray(np.rot90(found, turn // 90))


def _even_size(width: int, height: int, max_width: int) -> tuple[int, int]:
    scale = min(max_width / width, LONGEST_SIDE / height, 1.0)
    return _even(width * scale), _even(height * scale)


def _even(length: float) -> int:
    return max(round(length) // 2 * 2, _SMALLEST_SIDE)


def warm_up() -> None:
    """Have everything in memory that making pixels needs, while files can still be opened."""
    tonemapping.warm_up()
    RawFrames(32, 1 << 20).pixels(av.VideoFrame(64, 64, "yuv420p"))
