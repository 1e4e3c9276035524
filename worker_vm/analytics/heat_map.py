"""Where in the picture things were, as a picture."""

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from worker_vm.analytics.boxes import Frame, Track
from worker_vm.analytics.labels import tag

_COLUMNS = 160
_BLUR = 2.0
"""Of the feet's places, in cells."""
_FAINTEST = 0.04
_STRONGEST = 0.75


class HeatMap:
    """Adds up how long feet (the middle of a box's lower edge) stood where.

    Args:
        background: a frame of the video, over which the heat is laid.
    """

    def __init__(self, background: Frame) -> None:
        height, width = background.shape[:2]
        self._background = background.copy()
        self._cell = max(width / _COLUMNS, 1.0)
        self._seconds = np.zeros((int(height / self._cell) + 1, int(width / self._cell) + 1))

    def add(self, tracks: Iterable[Track], seconds: float) -> None:
        """Things were there for so long."""
        for track in tracks:
            if not track.is_seen:
                continue
            left, _, right, bottom = track.box
            row = min(max(int(bottom / self._cell), 0), self._seconds.shape[0] - 1)
            column = min(max(int((left + right) / 2 / self._cell), 0), self._seconds.shape[1] - 1)
            self._seconds[row, column] += seconds

    def write(self, path: Path, *, is_mock: bool) -> None:
        """Write it as a PNG."""
        heat = cv2.GaussianBlur(self._seconds, (0, 0), _BLUR)
        # The root shows ways as well as places to stay.
        heat = np.sqrt(heat / max(float(heat.max()), 1e-9))
        height, width = self._background.shape[:2]
        share = np.clip(cv2.resize(heat, (width, height), interpolation=cv2.INTER_CUBIC), 0, 1)
        colours = cv2.applyColorMap((share * 255).astype(np.uint8), cv2.COLORMAP_TURBO)
        grey = cv2.cvtColor(self._background, cv2.COLOR_BGR2GRAY)[..., None] * 0.55
        cover = (
            np.clip(share / _STRONGEST, 0, 1)[..., None]
            * _STRONGEST
            * (share > _FAINTEST)[..., None]
        )
        picture = (grey * (1 - cover) + colours * cover).astype(np.uint8)
        facts = PngInfo()
        if is_mock:
            tag(picture, "MOCK", (0, height), max(height // 30, 10), (60, 60, 230))
            facts.add_text("mock", "true")
        Image.fromarray(picture[..., ::-1]).save(path, "PNG", pnginfo=facts)
