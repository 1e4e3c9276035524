"""The previews of a mesh: stills and a turntable, as files."""

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import (
    Image,
    WebPImagePlugin,  # noqa: F401  or Pillow loads all its formats with the first animation
)

from worker_vm.rendering.studio import Look, Studio

STILL_SIZE = 768
TURNTABLE_SIZE = 512
TURNTABLE_FRAMES = 24
_SECONDS_PER_TURN = 3.0
_ELEVATION = 10.0

STILLS = {"front": -16.0, "right": 52.0, "back": 196.0, "left": -64.0}
"""Azimuth of each still in degrees: none head on, or it would look as flat as the picture."""
CLAY_AZIMUTH = 30.0


def write_still(studio: Studio, look: Look, path: Path, azimuth: float) -> None:
    """Write one PNG of 768 x 768 pixels."""
    picture = studio.render(look, azimuth=azimuth, elevation=_ELEVATION, size=STILL_SIZE)
    write_png(path, picture)


def write_png(path: Path, rgb: NDArray[np.uint8]) -> None:
    """Write a picture (h, w, 3)."""
    done, data = cv2.imencode(
        ".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 4]
    )
    if not done:
        raise RuntimeError("PNG encoding failed")
    path.write_bytes(data.tobytes())


def write_turntable(studio: Studio, look: Look, path: Path, tell: Callable[[float], None]) -> None:
    """Write one turn as an animated WebP of 512 x 512 pixels that loops for ever.

    Args:
        studio: the mesh.
        look: of its surface.
        path: where to.
        tell: called with the share done after each frame.
    """
    frames: list[Image.Image] = []
    for number in range(TURNTABLE_FRAMES):
        azimuth = 360.0 * number / TURNTABLE_FRAMES
        picture = studio.render(look, azimuth=azimuth, elevation=_ELEVATION, size=TURNTABLE_SIZE)
        frames.append(Image.fromarray(picture))
        tell((number + 1) / TURNTABLE_FRAMES)
    save_animation(frames, path)


def save_animation(frames: Sequence[Image.Image], path: Path) -> None:
    """Write frames of one turn as an animated WebP that loops for ever."""
    frames[0].save(
        path,
        format="WEBP",
        save_all=True,
        append_images=list(frames[1:]),
        duration=round(1000 * _SECONDS_PER_TURN / len(frames)),
        loop=0,
        quality=88,
        method=2,
        kmin=0,
        kmax=1,  # whole frames: patches over lossy patches look dirty
    )
