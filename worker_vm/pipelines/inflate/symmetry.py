"""Mirror symmetry about an upright axis: found in the outline, and made exact."""

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Mode = Literal["off", "auto", "on"]

_LOOK_SIDE = 160
_ALIKE = 0.93
"""Overlap of the outline with its mirror image that counts as symmetry."""
_SEARCH = 0.12  # of the width, to both sides of the box's middle


def symmetrical(alpha: Floats, mode: Mode) -> tuple[Floats, float | None]:
    """Make an outline symmetrical: the mean of itself and its mirror image, as distances.

    Args:
        alpha: (h, w) of the cut-out, 0 along its border.
        mode: `auto` leaves an outline alone that is not nearly symmetrical already.

    Returns:
        The outline, and how well it overlapped its mirror image (0…1), or None where it was left
        as it is.
    """
    if mode == "off":
        return alpha, None
    axis, overlap = _axis(alpha)
    if mode == "auto" and overlap < _ALIKE:
        return alpha, None
    solid = (alpha > 0.5).astype(np.uint8)  # noqa: PLR2004
    distance = cv2.distanceTransform(solid, cv2.DIST_L2, 5) - cv2.distanceTransform(
        1 - solid, cv2.DIST_L2, 5
    )
    # Between the outermost pixel of each side the distance jumps from -1 to 1: keep the soft edge.
    near = np.abs(distance) <= 1.0
    distance = np.where(near, (alpha - 0.5) * 2.0, distance - np.sign(distance) * 0.5)
    both = (distance + _mirrored(distance, axis)) / 2.0
    return np.clip(both * 0.5 + 0.5, 0.0, 1.0).astype(np.float32), overlap


def _axis(alpha: Floats) -> tuple[float, float]:
    """Return the best axis (pixels, in halves) and the overlap there."""
    factor = min(1.0, _LOOK_SIDE / max(alpha.shape))
    size = (max(2, round(alpha.shape[1] * factor)), max(2, round(alpha.shape[0] * factor)))
    small = np.asarray(cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)) > 0.5  # noqa: PLR2004
    cols = np.flatnonzero(small.any(axis=0))
    if not len(cols):
        return (alpha.shape[1] - 1) / 2.0, 0.0
    middle = int(cols[0] + cols[-1])
    reach = round(2 * _SEARCH * (cols[-1] - cols[0] + 1))
    best = max(
        (_overlap(small, twice), -abs(twice - middle), twice)
        for twice in range(middle - reach, middle + reach + 1)
    )
    wide = alpha.shape[1] / size[0]
    return _refined(alpha, (best[2] / 2.0 + 0.5) * wide - 0.5, wide), best[0]


def _refined(alpha: Floats, axis: float, reach: float) -> float:
    """Return the best axis near one that is exact to `reach` pixels only."""
    solid = np.asarray(alpha > 0.5)  # noqa: PLR2004
    about, twice = round(2 * axis), int(np.ceil(reach)) * 2
    tried = ((_overlap(solid, t), -abs(t - about), t) for t in range(about - twice, about + twice + 1))
    return max(tried)[2] / 2.0


def _overlap(solid: NDArray[np.bool_], twice: int) -> float:
    other = _mirrored(solid, twice / 2.0)
    return float((solid & other).sum() / max(1, int((solid | other).sum())))


def _mirrored(values: NDArray[np.generic], axis: float) -> NDArray[np.generic]:
    """Mirror columns about an axis; what comes from outside repeats the border."""
    columns = np.clip(round(2 * axis) - np.arange(values.shape[1]), 0, values.shape[1] - 1)
    return values[:, columns]
