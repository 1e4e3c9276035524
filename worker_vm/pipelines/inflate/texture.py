"""Two planar charts in one texture: the picture on the front, its rim's colours on the back."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from worker_vm.cutout import Subject
from worker_vm.pipelines.inflate.membrane import PADDING, Array, Operator, Silhouette

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

_ERODE = 0.01
"""Share of the subject's longer side along the outline whose colours are not trusted: they hold
some of the background."""
_GUTTER = 0.03
"""Share of the subject's longer side that a chart's colours reach past the outline."""
_BACK_SCALE = 0.34
"""The back is smooth: its chart may be that much smaller, which leaves more room for the front."""
_RIM_REACH = 0.05
"""How far the rim's colours reach onto the back, as a share of the longer side."""
_SMALLEST = 256


@dataclass(frozen=True)
class Chart:
    """A window of the cut-out and the rectangle of the texture that shows it (x, y, w, h)."""

    window: tuple[int, int, int, int]
    place: tuple[int, int, int, int]

    def uvs(self, x: Array, y: Array, side: int) -> Array:
        """Map points of the cut-out (pixels) to texture coordinates (n, 2)."""
        left, top, width, height = self.window
        ox, oy, w, h = self.place
        u = (ox + (x + 0.5 - left) / width * w) / side
        v = (oy + (y + 0.5 - top) / height * h) / side
        return np.clip(np.stack([u, v], axis=1), 0.0, 1.0)


@dataclass(frozen=True)
class Layout:
    """Where both charts lie."""

    side: int
    front: Chart
    back: Chart


def lay_out(alpha: Floats, resolution: int, foreground_ratio: float) -> Layout:
    """Choose the charts' places.

    Args:
        alpha: of the cut-out.
        resolution: longest side of the texture; halved while the cut-out has fewer pixels anyway.
        foreground_ratio: the subject's longer side takes at most this share of the texture.
    """
    solid = alpha > 0.5  # noqa: PLR2004
    rows, cols = np.flatnonzero(solid.any(axis=1)), np.flatnonzero(solid.any(axis=0))
    subject = int(max(rows[-1] - rows[0], cols[-1] - cols[0])) + 1
    pad = round(_GUTTER * subject) + 2
    left, top = max(0, int(cols[0]) - pad), max(0, int(rows[0]) - pad)
    right = min(alpha.shape[1], int(cols[-1]) + pad + 1)
    bottom = min(alpha.shape[0], int(rows[-1]) + pad + 1)
    window = (left, top, right - left, bottom - top)
    side = resolution
    while side > _SMALLEST and _scale(window, subject, side // 2, foreground_ratio)[0] >= 1.0:
        side //= 2
    scale, beside = _scale(window, subject, side, foreground_ratio)
    w, h = (max(2, int(length * scale)) for length in window[2:])
    free = (side - w) / w if beside else (side - h) / h
    small = min(1.0, free)
    bw, bh = max(2, int(w * small)), max(2, int(h * small))
    place = (w, 0, bw, bh) if beside else (0, h, bw, bh)
    return Layout(side, Chart(window, (0, 0, w, h)), Chart(window, place))


def _scale(
    window: tuple[int, int, int, int], subject: int, side: int, ratio: float
) -> tuple[float, bool]:
    """Return texels per pixel for the front, and whether the back lies beside or below it."""
    width, height = window[2:]
    beside = min(side / (width * (1 + _BACK_SCALE)), side / height)
    below = min(side / width, side / (height * (1 + _BACK_SCALE)))
    return min(max(beside, below), ratio * side / subject), beside >= below


def front_colours(subject: Subject) -> Bytes:
    """Return the cut-out's colours (h, w, 3), filled from inside along and past the outline."""
    solid = (subject.alpha > 0.5).astype(np.uint8)  # noqa: PLR2004
    depth = cv2.distanceTransform(solid, cv2.DIST_L2, 3)
    rows, cols = np.flatnonzero(solid.any(axis=1)), np.flatnonzero(solid.any(axis=0))
    erode = _ERODE * max(rows[-1] - rows[0], cols[-1] - cols[0])
    reach = 2 * round(2 * erode) + 1
    # Of parts thinner than that, the middle is kept.
    widest = cv2.dilate(depth, np.ones((reach, reach), np.uint8))
    limit = np.minimum(erode, 0.5 * widest)
    trusted = (depth > limit) & (solid > 0)
    return _carried_out(subject.rgb, trusted, 3.0 * erode)


def _carried_out(rgb: Bytes, trusted: NDArray[np.bool_], reach: float) -> Bytes:
    """Carry the trusted colours straight outwards, and blend them far out.

    Nearest colours keep a stripe that runs into the outline a stripe.
    """
    away, nearest = cv2.distanceTransformWithLabels(
        (~trusted).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    source = np.zeros((int(nearest.max()) + 1, 3), dtype=np.float32)
    source[nearest[trusted]] = rgb[trusted]
    carried = source[nearest]
    soft = cv2.GaussianBlur(carried, (0, 0), 1.6)
    blend = np.clip(away / 3.0, 0.0, 1.0)[..., None]
    carried += (soft - carried) * blend
    weight = np.clip(1.0 - (away - reach) / max(reach, 1.0), 0.0, 1.0).astype(np.float32)
    return _to_bytes(fill(carried, weight))


def back_colours(front: Bytes, shape: Silhouette, operator: Operator) -> Bytes:
    """Return smooth colours for the back (grid cells), harmonic between those of the rim."""
    height, width = (side - 2 * PADDING for side in shape.level.shape)
    grid = cv2.resize(front, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    grid = np.pad(grid, ((PADDING, PADDING), (PADDING, PADDING), (0, 0)), mode="edge")
    outside = (~shape.inside).astype(np.uint8)
    rim = np.asarray(cv2.dilate(1 - outside, np.ones((3, 3), np.uint8)), np.uint8) & outside
    filled = fill(grid, rim.astype(np.float32))
    for channel in range(3):
        guess = filled[..., channel].astype(np.float64)
        bend = cv2.Laplacian(guess, cv2.CV_64F)
        guess += operator.solve(np.where(shape.inside, -bend, 0.0))
        filled[..., channel] = guess
    filled += (_carried_in(grid, shape) - filled) * _rim_share(shape)[..., None]
    filled = np.asarray(cv2.GaussianBlur(filled, (0, 0), 0.8), np.float32)
    return _to_bytes(np.asarray(filled[PADDING:-PADDING, PADDING:-PADDING], np.float32))


def _carried_in(grid: Floats, shape: Silhouette) -> Floats:
    """Return each cell's nearest colour of the rim."""
    _, nearest = cv2.distanceTransformWithLabels(
        shape.inside.astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    source = np.zeros((int(nearest.max()) + 1, 3), dtype=np.float32)
    source[nearest[~shape.inside]] = grid[~shape.inside]
    return np.asarray(cv2.GaussianBlur(source[nearest], (0, 0), 1.5), dtype=np.float32)


def _rim_share(shape: Silhouette) -> Floats:
    """Return 1 at the rim, falling to 0 within some cells: how far stripes run onto the back."""
    depth = cv2.distanceTransform(shape.inside.astype(np.uint8), cv2.DIST_L2, 5)
    share = np.exp(-((depth / (_RIM_REACH * max(shape.level.shape))) ** 2))
    return np.asarray(share, np.float32)


def fill(colours: Floats, weight: Floats) -> Floats:
    """Spread colours from where `weight` is 1 to where it is 0 (push-pull, Gortler et al. 1996).

    Args:
        colours: (h, w, 3)
        weight: (h, w) in 0…1
    """
    levels: list[tuple[NDArray[Any], NDArray[Any]]] = [(colours * weight[..., None], weight)]
    while min(levels[-1][1].shape) > 2:  # noqa: PLR2004
        above, trust = levels[-1]
        smaller = cv2.pyrDown(above), cv2.pyrDown(trust)
        levels.append((np.asarray(smaller[0]), np.asarray(smaller[1])))
    total, trust = levels[-1]
    result = total / np.maximum(trust, 1e-6)[..., None]
    for total, trust in reversed(levels[:-1]):
        size = (trust.shape[1], trust.shape[0])
        coarse = cv2.resize(result, size, interpolation=cv2.INTER_LINEAR)
        own = np.clip(trust, 0.0, 1.0)[..., None]
        result = total / np.maximum(trust, 1e-6)[..., None] * own + coarse * (1.0 - own)
    return np.asarray(result, dtype=np.float32)


def paint(layout: Layout, front: Bytes, back: Bytes, cutout_shape: tuple[int, ...]) -> Bytes:
    """Put both charts into the texture (side, side, 3)."""
    side = layout.side
    mean = front.reshape(-1, 3).mean(axis=0)
    texture = np.empty((side, side, 3), dtype=np.uint8)
    texture[:] = np.rint(mean).astype(np.uint8)
    height, width = cutout_shape[:2]
    wide = cv2.resize(back, (width, height), interpolation=cv2.INTER_LINEAR)
    for chart, source in ((layout.back, wide), (layout.front, front)):
        left, top, w, h = chart.window
        x, y, tw, th = chart.place
        mode = cv2.INTER_AREA if tw < w else cv2.INTER_CUBIC
        texture[y : y + th, x : x + tw] = cv2.resize(
            source[top : top + h, left : left + w], (tw, th), interpolation=mode
        )
    return texture


def _to_bytes(values: Floats) -> Bytes:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
