"""A very faint relief from the picture's brightness.

Gradient-domain compression as in digital bas-relief (Weyrich et al. 2007): strong gradients, which
are painted edges far more often than shape, are suppressed before the heights are put together.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from worker_vm.pipelines.inflate.membrane import PADDING, Array, Operator, Silhouette
from worker_vm.pipelines.inflate.symmetry import Mirror

_STRONG = 0.035  # change of brightness (0…1) per cell that counts as a painted edge
_PAINTED = 0.02  # likewise, in the picture itself
_FLANK = 4  # cells beside such an edge that its blur reaches
_HEIGHT = 0.010  # of the subject's longer side, at relief 1


def relief(
    rgb: NDArray[np.uint8], shape: Silhouette, operator: Operator, amount: float, mirror: Mirror
) -> Array:
    """Return heights in cells, (h, w), smooth and 0 at the outline.

    Args:
        rgb: (height, width, 3) colours of the cut-out, filled past its outline.
        shape: the cut-out's silhouette.
        operator: its Laplacian.
        amount: 0 (none) to 1.
        mirror: what is to be the same on both sides.
    """
    height, width = (side - 2 * PADDING for side in shape.level.shape)
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255.0
    grey = np.pad(
        cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA), PADDING, mode="edge"
    )
    # A band of sizes: finer is noise, coarser is the light that fell on the subject.
    band = cv2.GaussianBlur(grey, (0, 0), 1.2) - cv2.GaussianBlur(grey, (0, 0), 12.0)
    detail = band.astype(np.float64)
    even = _even(grey)
    step_y, step_x = np.diff(detail, axis=0), np.diff(detail, axis=1)
    step_y *= np.exp(-((step_y / _STRONG) ** 2)) * np.minimum(even[1:], even[:-1])
    step_x *= np.exp(-((step_x / _STRONG) ** 2)) * np.minimum(even[:, 1:], even[:, :-1])
    divergence = np.zeros_like(detail)
    divergence[:-1] += step_y
    divergence[1:] -= step_y
    divergence[:, :-1] += step_x
    divergence[:, 1:] -= step_x
    heights = operator.solve(np.where(shape.inside, mirror.mean(divergence), 0.0))
    scale = float(np.percentile(np.abs(heights[shape.inside]), 98)) + 1e-3
    heights = np.tanh(heights / scale) * amount * _HEIGHT * max(height, width)
    return np.asarray(cv2.GaussianBlur(heights, (0, 0), 1.0))


def _even(grey: NDArray[np.float32]) -> Array:
    """Return 0 at painted edges and beside them, where their flanks look like shape, else 1."""
    soft = cv2.GaussianBlur(grey, (0, 0), 0.8)
    across, down = (cv2.Sobel(soft, cv2.CV_32F, *axis, scale=0.125) for axis in ((1, 0), (0, 1)))
    edges = (np.hypot(across, down) > _PAINTED).astype(np.uint8)
    near = cv2.dilate(edges, np.ones((2 * _FLANK + 1,) * 2, np.uint8))
    return np.asarray(1.0 - cv2.GaussianBlur(near.astype(np.float64), (0, 0), 1.5))
