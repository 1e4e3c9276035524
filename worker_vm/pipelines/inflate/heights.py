"""The half surface over the grid: its height and its normals anywhere."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from scipy import ndimage

from worker_vm.pipelines.inflate.membrane import Array


@dataclass(frozen=True)
class Heights:
    """The half surface z = k √u + h over the grid."""

    u: Array
    stretch: float
    """k"""
    bumps: Array
    """h in cells, 0 at the rim"""
    corner: tuple[int, int] = (0, 0)
    """x and y of the grid's first cell"""

    def at(self, x: Array, y: Array, *, bumps: bool) -> Array:
        """Return z at points of the plane (cells)."""
        base = self.stretch * np.sqrt(np.maximum(self._sample(self.u, x, y), 0.0))
        if not bumps:
            return base
        # Never so deep as to reach the other half.
        return np.asarray(base + np.maximum(self._sample(self.bumps, x, y), -0.3 * base))

    def normals(self, x: Array, y: Array, *, bumps: bool) -> Array:
        """Return unit normals (n, 3) of the front, up to the rim, where z is steep."""
        slope_x, slope_y = self.slopes
        root = np.sqrt(np.maximum(self._sample(self.u, x, y), 0.0))
        across, down = self._sample(slope_x, x, y), self._sample(slope_y, x, y)
        normal = np.stack([-self.stretch * across, -self.stretch * down, 2.0 * root], axis=1)
        if bumps:
            bump_x, bump_y = _gradient(self.bumps)
            normal[:, 0] -= 2.0 * root * self._sample(bump_x, x, y)
            normal[:, 1] -= 2.0 * root * self._sample(bump_y, x, y)
        length = np.linalg.norm(normal, axis=1, keepdims=True)
        flat = length < 1e-9  # noqa: PLR2004
        return np.asarray(np.where(flat, (0.0, 0.0, 1.0), normal / np.maximum(length, 1e-9)))

    @cached_property
    def slopes(self) -> tuple[Array, Array]:
        """The gradient of u, smooth up to and past the outline, where u itself has a kink."""
        inside = self.u > 0.0
        deep = ndimage.binary_erosion(inside)
        # Cells beside the outline count only where there are no better ones near.
        trust = np.where(deep, 1.0, np.where(inside, 0.03, 0.0))
        total = cv2.GaussianBlur(trust, (0, 0), 1.3) + 1e-12
        near = cv2.GaussianBlur(np.where(inside, 1.0, 0.0), (0, 0), 1.3) > 1e-3  # noqa: PLR2004
        smooth = [
            np.where(near, cv2.GaussianBlur(part * trust, (0, 0), 1.3) / total, part)
            for part in _gradient(self.u)
        ]
        return smooth[0], smooth[1]

    def _sample(self, grid: Any, x: Any, y: Any) -> Array:
        places = (y - self.corner[1], x - self.corner[0])
        return np.asarray(ndimage.map_coordinates(grid, places, order=1, mode="nearest"))


def _gradient(grid: Array) -> tuple[Array, Array]:
    """Return the change along x and along y, per cell."""
    down, across = np.gradient(grid)
    return np.asarray(across), np.asarray(down)
