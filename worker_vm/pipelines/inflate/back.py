"""The colours of the back, which no picture shows.

Seen from behind, the outline is the front's mirror image, and stripes, patches and colours that
run over the rim go on there: so the back shows the front again. What lies enclosed in the front
(eyes, a mouth) belongs to a face: it is left out where the outline is about as symmetrical as
things (or their upper halves) are that are seen from the front, and kept where it is not, as in an
animal's side view.
"""

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from worker_vm.pipelines.inflate.fill import fill
from worker_vm.pipelines.inflate.symmetry import ALIKE, candidates, overlap

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Bools = NDArray[np.bool_]
Back = Literal["auto", "mirror", "plain"]

_LOOK_SIDE = 160
_SEARCH = 0.12  # of the width, to both sides of the middle: where the axis may be
_STEP = 8.0  # CIELAB units a pixel at that size: a painted edge
_KEPT_RIM = 2.0  # pixels at that size
_RIM = 0.05  # of the longer side: what comes as near to the outline runs over it


def back_colours(front: Bytes, alpha: Floats, back: Back) -> Bytes:
    """Return the back's colours (h, w, 3), as seen through the front.

    Args:
        front: (h, w, 3), filled past the outline.
        alpha: (h, w) of the cut-out.
        back: `mirror` keeps all of the front, `plain` leaves out what is enclosed in it, and `auto`
            is `plain` for symmetrical outlines.
    """
    if back == "mirror" or (back == "auto" and symmetry(alpha) < ALIKE):
        return front
    factor = min(1.0, _LOOK_SIDE / max(alpha.shape))
    size = (max(2, round(alpha.shape[1] * factor)), max(2, round(alpha.shape[0] * factor)))
    small = np.asarray(cv2.resize(front, size, interpolation=cv2.INTER_AREA), np.uint8)
    solid = np.asarray(cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)) > 0.5  # noqa: PLR2004
    enclosed = _enclosed(small, np.asarray(solid))
    if not enclosed.any():
        return front
    filled = fill(small.astype(np.float32), (~enclosed).astype(np.float32))
    whole = (alpha.shape[1], alpha.shape[0])
    share = cv2.GaussianBlur(enclosed.astype(np.float32), (0, 0), 1.0)
    share = cv2.resize(share, whole, interpolation=cv2.INTER_LINEAR)[..., None]
    wide = cv2.resize(filled, whole, interpolation=cv2.INTER_CUBIC)
    return np.clip(np.rint(front + (wide - front) * share), 0, 255).astype(np.uint8)


def symmetry(alpha: Floats) -> float:
    """Return how well an outline overlaps its mirror image about the best upright axis, 0…1.

    The upper half counts alone if it does better: a tail to one side leaves a face a face.
    """
    factor = min(1.0, _LOOK_SIDE / max(alpha.shape))
    size = (max(2, round(alpha.shape[1] * factor)), max(2, round(alpha.shape[0] * factor)))
    solid = np.asarray(cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)) > 0.5  # noqa: PLR2004
    rows = np.flatnonzero(solid.any(axis=1))
    if not len(rows):
        return 0.0
    upper = solid[: (rows[0] + rows[-1]) // 2 + 1]
    return max(
        overlap(part, twice) for part in (solid, upper) for twice in candidates(part, _SEARCH)
    )


def _enclosed(small: Bytes, solid: Bools) -> Bools:
    """Find what is cut off from the outline by painted edges, with these edges."""
    soft = cv2.GaussianBlur(small, (0, 0), 0.7).astype(np.float32) / np.float32(255.0)
    lab = cv2.cvtColor(soft, cv2.COLOR_RGB2LAB)
    across = cv2.Sobel(lab, cv2.CV_32F, 1, 0, scale=0.125)
    down = cv2.Sobel(lab, cv2.CV_32F, 0, 1, scale=0.125)
    even = (np.sqrt((across**2 + down**2).sum(axis=2)) < _STEP) & solid
    _, labels = cv2.connectedComponents(even.astype(np.uint8), connectivity=4)
    depth = cv2.distanceTransform(solid.astype(np.uint8), cv2.DIST_L2, 5)
    rim = solid & (depth <= max(2.0, _RIM * max(solid.shape)))
    lost = even & ~np.isin(labels, np.unique(labels[rim & even]))
    # Colours beside an edge are mixed ones.
    return np.asarray(
        (cv2.dilate(lost.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0) & (depth > _KEPT_RIM)
    )
