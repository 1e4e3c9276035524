"""What a run shows while it goes on."""

import math
import time
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from worker_vm.pipelines.dreamfusion.cameras import turntable
from worker_vm.pipelines.dreamfusion.distil import Distillation
from worker_vm.rendering.previews import TURNTABLE_FRAMES, save_animation, write_png

_FIRST_SECONDS = 4.0
_GROWTH = 0.04
"""Stills come ever more slowly, or an hour's run would make a thousand."""
_SHOWN = 320
"""pixels on a side, scaled up where the renderings are smaller"""
_TURN = math.radians(67.0)
"""between one still and the next"""


class LivePreviews:
    """Stills every few seconds, each from another side, and turntables.

    Args:
        distillation: what is shown.
        resolution: of the renderings, in pixels.
        folder: for the files.
    """

    def __init__(self, distillation: Distillation, resolution: int, folder: Path) -> None:
        self._distillation = distillation
        self._resolution = resolution
        self._folder = folder
        self._started = time.monotonic()
        self._due = 0.0
        self._shown = 0

    def still(self) -> Path | None:
        """A picture of the object as it is now, if one is due."""
        elapsed = time.monotonic() - self._started
        if elapsed < self._due:
            return None
        self._due = elapsed + _FIRST_SECONDS + _GROWTH * elapsed
        views = turntable(1, size=self._resolution, start=self._shown * _TURN)
        self._shown += 1
        path = self._folder / f"preview_step_{self._distillation.step:06d}.png"
        write_png(path, _enlarged(self._distillation.pictures(views)[0]))
        return path

    def turntable(self, stage: str) -> Path:
        """One turn of the object as it is now, as an animation."""
        pictures = self._distillation.pictures(turntable(TURNTABLE_FRAMES, size=self._resolution))
        path = self._folder / f"turntable_{stage}.webp"
        save_animation([Image.fromarray(_enlarged(picture)) for picture in pictures], path)
        return path


def _enlarged(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if len(picture) >= _SHOWN:
        return picture
    large = cv2.resize(picture, (_SHOWN, _SHOWN), interpolation=cv2.INTER_CUBIC)
    return np.asarray(large, np.uint8)
