"""Let thickness follow the width of each part.

The membrane makes a ball over a disc, but rises to √2 times a strip's half width, so limbs come out
too thick for their body. The union of the balls that fit into the outline is right for both, and
creased; so the membrane is scaled, smoothly, to what those balls say.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]

_SMOOTH = 6.0  # cells
_RANGE = (0.2, 2.0)


def evened(u: Array, inside: Bools) -> Array:
    """Return u scaled so that its root follows the local half width.

    Args:
        u: the membrane, (h, w), square cells.
        inside: where it is positive; with a margin of empty cells.
    """
    weight = np.where(inside, u, 0.0)
    balls = np.where(inside, _balls(inside), 0.0)  # weight · (balls / u)
    ratio = cv2.GaussianBlur(balls, (0, 0), _SMOOTH) / (
        cv2.GaussianBlur(weight, (0, 0), _SMOOTH) + 1e-9
    )
    return np.asarray(np.where(inside, u * np.clip(ratio, *_RANGE), 0.0))


def _balls(inside: Bools) -> Array:
    """Squared height of the union of all balls that fit, their centres in the plane.

    The largest r(c)² - |x - c|² over all cells c, first along columns, then along rows.
    """
    radius = cv2.distanceTransform(
        inside.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE
    ).astype(np.float64)
    # The square of a distance between cells is a whole number; the transform's own last bits differ
    # from call to call, and the same picture is to give the same bytes.
    radius = np.maximum(np.sqrt(np.round(radius**2)) - 0.5, 0.0)
    squared = np.where(inside, radius**2, -1e9)
    reach = int(np.ceil(radius.max()))
    for axis in (0, 1):
        highest = squared.copy()
        for step in range(1, reach + 1):
            # What wraps around is too far from its ball's centre to matter.
            for shift in (step, -step):
                np.maximum(highest, np.roll(squared, shift, axis) - step**2, out=highest)
        squared = highest
    return np.maximum(squared, 0.0)
