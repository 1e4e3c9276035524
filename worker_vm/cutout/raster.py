"""Small operations on pictures and masks that the steps of a cut-out share."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Bools = NDArray[np.bool_]
Array = NDArray[Any]

WORK_SIDE = 320
"""Longer side, in pixels, of the picture that subjects are looked for in."""
_MIN_SIDE = 256
_SHORT_SIDE = 64
_HOLE_SHARE = 0.01


def lab(rgb: Bytes) -> Floats:
    """CIELAB with lightness 0…100."""
    return np.asarray(cv2.cvtColor(rgb.astype(np.float32) / 255.0, cv2.COLOR_RGB2LAB), np.float32)


def disc(radius: int) -> Bytes:
    """A round structuring element."""
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2), np.uint8)


def closed(mask: Bools, radius: int) -> Bools:
    """Close gaps up to twice the radius, also along the picture's border."""
    padded = np.pad(mask.astype(np.uint8), radius)
    filled = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, disc(radius))
    return np.asarray(filled[radius:-radius, radius:-radius] > 0)


def without_spurs(mask: Bools) -> Bools:
    """Drop thin lines that run into the picture's border: a horizon, the edge of a table."""
    solid = mask.astype(np.uint8)
    thin = mask & (cv2.morphologyEx(solid, cv2.MORPH_OPEN, disc(1)) == 0)
    count, labels = cv2.connectedComponents(thin.astype(np.uint8), connectivity=8)
    if count <= 1:
        return mask
    near = 2 + round(0.03 * max(mask.shape))
    edge = np.ones(mask.shape, dtype=bool)
    edge[near:-near, near:-near] = False
    return np.asarray(mask & ~np.isin(labels, np.setdiff1d(labels[edge], [0])))


def otsu(values: Floats) -> float:
    """Threshold that splits values into two groups best (Otsu 1979)."""
    scaled = np.clip(values * 2.0, 0, 255).astype(np.uint8).reshape(-1, 1)
    level, _ = cv2.threshold(scaled, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return float(level) / 2.0


def shrunk(rgb: Bytes, side: int) -> Bytes:
    """Scale so that the longer side has `side` pixels, or up to four times that in a panorama."""
    factor = side / max(rgb.shape[:2])
    factor = max(factor, min(_SHORT_SIDE / min(rgb.shape[:2]), 4.0 * factor))
    size = (max(8, round(rgb.shape[1] * factor)), max(8, round(rgb.shape[0] * factor)))
    mode = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(rgb, size, interpolation=mode), np.uint8)


def resized(image: Array, max_side: int) -> Array:
    """Scale so that the longer side lies between 256 and `max_side` pixels."""
    longer = max(image.shape[:2])
    side = min(max(longer, _MIN_SIDE), max_side)
    if side == longer:
        return image
    factor = side / longer
    size = (max(8, round(image.shape[1] * factor)), max(8, round(image.shape[0] * factor)))
    mode = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    scaled = cv2.resize(image, size, interpolation=mode)
    return np.asarray(scaled if scaled.dtype == np.uint8 else np.clip(scaled, 0.0, 1.0))


def box_of(mask: Bools, margin: int) -> tuple[slice, slice]:
    """Return the rows and columns of a mask's box, widened by so many pixels within the picture."""
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (
        slice(max(0, int(rows[0]) - margin), min(mask.shape[0], int(rows[-1]) + margin + 1)),
        slice(max(0, int(cols[0]) - margin), min(mask.shape[1], int(cols[-1]) + margin + 1)),
    )


def clean(mask: Bools, wanted: Bools | None = None) -> Bools:
    """Keep one piece and fill small holes; real holes (a ring's) stay.

    Args:
        mask: of the subject.
        wanted: pixels the caller pointed at: the piece that holds most of them is kept, else the
            largest.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=4
    )
    if count <= 1:
        return mask
    areas = stats[1:, cv2.CC_STAT_AREA]
    best = 1 + int(np.argmax(areas))
    if wanted is not None and (mask & wanted).any():
        best = int(np.argmax(np.bincount(labels[mask & wanted], minlength=count)))
    kept = np.asarray(labels == best)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        (~kept).astype(np.uint8), connectivity=4
    )
    small = stats[:, cv2.CC_STAT_AREA] < _HOLE_SHARE * kept.sum()
    small[0] = False
    return np.asarray(kept | small[labels])
