"""What the caller says about where the subject is."""

from dataclasses import dataclass

import cv2
import numpy as np

from worker_vm.cutout.raster import Bools

Box = tuple[float, float, float, float]
Point = tuple[float, float]

_DOT = 0.012
"""Radius of a point, as a share of the longer side: a finger is not exact."""


@dataclass(frozen=True)
class Hints:
    """All in fractions of the upright picture, 0…1, x to the right and y down."""

    box: Box | None = None
    """left, top, right, bottom; the subject lies inside"""
    points: tuple[Point, ...] = ()
    """on the subject"""
    background_points: tuple[Point, ...] = ()
    """not on it"""

    def allowed(self, shape: tuple[int, ...]) -> Bools:
        """Pixels that may belong to the subject."""
        height, width = shape[:2]
        mask = np.ones((height, width), dtype=bool)
        if self.box is not None:
            x0, x1 = round(self.box[0] * width), round(self.box[2] * width)
            y0, y1 = round(self.box[1] * height), round(self.box[3] * height)
            mask[:] = False
            mask[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)] = True
        return mask & ~_dots(shape, self.background_points)

    def wanted(self, shape: tuple[int, ...]) -> Bools | None:
        """Pixels that surely belong to it, or None where the caller named none."""
        return _dots(shape, self.points) if self.points else None


def _dots(shape: tuple[int, ...], points: tuple[Point, ...]) -> Bools:
    height, width = shape[:2]
    mask = np.zeros((height, width), dtype=np.uint8)
    radius = max(1, round(_DOT * max(height, width)))
    for x, y in points:
        centre = (min(int(x * width), width - 1), min(int(y * height), height - 1))
        cv2.circle(mask, centre, radius, 1, -1)
    return np.asarray(mask > 0)
