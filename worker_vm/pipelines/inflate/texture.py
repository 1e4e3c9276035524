"""Two planar charts in one texture: the picture on the front, and what the back shows."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from worker_vm.cutout import Subject
from worker_vm.pipelines.inflate.fill import fill
from worker_vm.pipelines.inflate.membrane import Array

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

_ERODE = 0.01
"""Share of the subject's longer side along the outline whose colours are not trusted: they hold
some of the background."""
_GUTTER = 0.03
"""Share of the subject's longer side that a chart's colours reach past the outline."""
_BACK_SCALE = 0.5
"""The back is a guess: its chart may be that much smaller, which leaves more room for the front."""
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


def paint(layout: Layout, front: Bytes, back: Bytes) -> Bytes:
    """Put both charts into the texture (side, side, 3)."""
    side = layout.side
    mean = front.reshape(-1, 3).mean(axis=0)
    texture = np.empty((side, side, 3), dtype=np.uint8)
    texture[:] = np.rint(mean).astype(np.uint8)
    for chart, source in ((layout.back, back), (layout.front, front)):
        left, top, w, h = chart.window
        x, y, tw, th = chart.place
        mode = cv2.INTER_AREA if tw < w else cv2.INTER_CUBIC
        texture[y : y + th, x : x + tw] = cv2.resize(
            source[top : top + h, left : left + w], (tw, th), interpolation=mode
        )
    return texture


def _to_bytes(values: Floats) -> Bytes:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
