"""Mirror symmetry about an upright axis: how much of it there is, and a shape that has it.

The silhouette decides the thickness, so it is the silhouette that is made symmetric: where a
stretch of the outline has a counterpart on the other side, both move half way towards each other.
What has none, such as a tail to one side, stays as the picture shows it.
"""

from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from scipy import ndimage

from worker_vm.pipelines.inflate.membrane import NEIGHBOURS, Array, Bools, Silhouette, single
from worker_vm.pipelines.inflate.topology import euler_of_mask

Symmetry = Literal["auto", "none", "left_right"]

ALIKE = 0.93
"""Overlap with its mirror image from which on a silhouette counts as symmetrical."""
_SEARCH = 0.25  # of the width, to both sides of the middle: where the axis may be
_PAIRED = 0.03  # of the longer side: how far an outline and its counterpart may be apart
_TAKEN_OVER = 0.9  # of the silhouette at least


@dataclass(frozen=True)
class Mirror:
    """What was found of a silhouette's symmetry, and what is made of it."""

    asked: Symmetry
    twice: int
    """Columns c and `twice` - c are each other's mirror image: the axis is at half of it."""
    overlap: float
    """Intersection over union of the silhouette and its mirror image, 0…1."""
    paired: Array | None = None
    """(h, w), symmetric: how far each cell has a counterpart, 0…1; None if all stays as it is."""
    outline_kept: bool = False
    """The outline stays as it is, since a part or a hole of it would go."""

    def mean(self, values: Array) -> Array:
        """Return values (h, w) in the mean with their mirror image, as far as that is paired."""
        if self.paired is None:
            return values
        return np.asarray(values + 0.5 * self.paired * (_flipped(values, self.twice) - values))


def candidates(mask: Bools, share: float) -> range:
    """Return the axes within a share of a mask's width of its middle, as twice their column."""
    cols = np.flatnonzero(mask.any(axis=0))
    middle, reach = int(cols[0] + cols[-1]), round(2 * share * (cols[-1] - cols[0] + 1))
    return range(middle - reach, middle + reach + 1)


def overlap(mask: Bools, twice: int) -> float:
    """Return how well a mask overlaps its mirror image, intersection over union."""
    there = twice - np.arange(mask.shape[1])
    seen = (there >= 0) & (there < mask.shape[1])
    both = int(np.count_nonzero(mask[:, seen] & mask[:, there[seen]]))
    return both / (2 * int(mask.sum()) - both)


def symmetrised(shape: Silhouette, asked: Symmetry) -> tuple[Silhouette, Mirror]:
    """Make a silhouette symmetric about its best axis, as far as it has counterparts.

    Args:
        shape: one piece.
        asked: `left_right` does it, `auto` only where the whole is about symmetrical, and `none`
            does not.
    """
    away = _distance(shape)
    reach = _PAIRED * max(away.shape)
    twice = _axis(shape.inside, away, reach)
    found = Mirror(asked, twice, overlap(shape.inside, twice))
    if asked == "none" or (asked == "auto" and found.overlap < ALIKE):
        return shape, found
    mirror = replace(found, paired=_paired(away, twice, reach))
    level = mirror.mean(away)
    # What the picture's border cut off must not come back beyond the grid.
    level[:, [0, 1, -2, -1]] = np.minimum(level[:, [0, 1, -2, -1]], -1.0)
    level = single(level)
    result = Silhouette(level, shape.scale)
    if _is_the_same(result.inside, shape.inside):
        return result, mirror
    return shape, replace(mirror, outline_kept=True)


def _is_the_same(new: Bools, old: Bools) -> bool:
    """Whether all parts and holes are still there."""
    taken_over = np.count_nonzero(new & old) >= _TAKEN_OVER * np.count_nonzero(old)
    return bool(taken_over) and euler_of_mask(new) == euler_of_mask(old)


def _axis(inside: Bools, away: Array, reach: float) -> int:
    """Find the axis that gives most of the outline a counterpart, as twice its column.

    What has none does not count, or a mug's handle would draw the axis off the mug's middle.
    """
    rows, cols = np.nonzero(np.abs(away) < 1.0)
    own, last = away[rows, cols], away.shape[1] - 1
    pairs = {
        twice: np.maximum(reach - np.abs(away[rows, np.clip(twice - cols, 0, last)] - own), 0).sum()
        for twice in candidates(inside, _SEARCH)
    }
    return max(pairs, key=lambda twice: float(pairs[twice]))


def _paired(away: Array, twice: int, reach: float) -> Array:
    """Return how far cells have a counterpart: 1 within `reach`, 0 from twice that on."""
    beyond = np.clip(np.abs(_flipped(away, twice) - away) / reach - 1.0, 0.0, 1.0)
    paired = 1.0 - beyond**2 * (3.0 - 2.0 * beyond)
    # Else a limb that begins on one side would leave stubs of itself on the other.
    deep = cv2.erode(paired, np.ones((2 * round(2.0 * reach) + 1,) * 2, np.uint8))
    return np.asarray(cv2.GaussianBlur(deep, (0, 0), reach / 2.0), np.float64)


def _flipped(values: Array, twice: int) -> Array:
    """Mirror a grid; beyond its sides it goes on as it ends there."""
    width = values.shape[1]
    return np.asarray(values[:, np.clip(twice - np.arange(width), 0, width - 1)])


def _distance(shape: Silhouette) -> Array:
    """Return cells to the outline, positive inside: to its point beside the nearest cell of it."""
    level, inside = shape.level, shape.inside
    beside = np.stack([np.roll(inside, step, axis=(0, 1)) for step in NEIGHBOURS]) != inside
    _, (row, col) = ndimage.distance_transform_edt(~beside.any(axis=0), return_indices=True)
    down, across = np.gradient(level)
    steep = np.maximum(np.hypot(down, across), 1e-9)
    step = np.clip(level / steep, -1.0, 1.0) / steep
    y, x = np.indices(level.shape)
    there_y, there_x = (y - step * down)[row, col], (x - step * across)[row, col]
    return np.asarray(np.where(inside, 1.0, -1.0) * np.hypot(y - there_y, x - there_x))
