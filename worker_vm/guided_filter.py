"""The guided filter: smooth a mask so that its edges follow a picture's.

He, Sun & Tang 2010, with the linear model fitted at a smaller size (He & Sun 2015).
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

_FIT_SIDE = 480
_SMOOTHNESS = np.float32(2e-4)  # epsilon: variance below it counts as flat (colours 0…1)


def guided_filter(guide: Bytes, source: Floats, radius: int) -> Floats:
    """Filter `source` so that its edges follow the colours of `guide` .

    Args:
        guide: (h, w, 3)
        source: (h, w)
        radius: of the windows in pixels.

    Returns:
        (h, w), which may leave the range of `source` a little.
    """
    height, width = source.shape
    step = max(1, round(max(height, width) / _FIT_SIDE))
    size = (max(1, width // step), max(1, height // step))
    image = _unit(cv2.resize(guide, size, interpolation=cv2.INTER_AREA))
    target = np.asarray(cv2.resize(source, size, interpolation=cv2.INTER_AREA), np.float32)
    window = (2 * max(2, radius // step) + 1,) * 2

    def mean(values: Floats) -> Floats:
        return np.asarray(cv2.blur(values, window), np.float32)

    mean_i, mean_p = mean(image), mean(target)
    covariance = mean(image * target[..., None]) - mean_i * mean_p[..., None]
    sigma = np.empty((*target.shape, 3, 3), dtype=np.float32)
    for i in range(3):
        for j in range(i, 3):
            value = mean(image[..., i] * image[..., j]) - mean_i[..., i] * mean_i[..., j]
            sigma[..., i, j] = sigma[..., j, i] = value
    sigma += _SMOOTHNESS * np.eye(3, dtype=np.float32)
    slope = np.linalg.solve(sigma, covariance[..., None])[..., 0].astype(np.float32)
    offset = mean_p - (slope * mean_i).sum(axis=2)
    fitted = np.concatenate([mean(slope), mean(offset)[..., None]], axis=2)
    model = np.asarray(cv2.resize(fitted, (width, height), interpolation=cv2.INTER_LINEAR))
    return np.asarray(np.einsum("hwc,hwc->hw", model[..., :3], _unit(guide)) + model[..., 3])


def _unit(pixels: Any) -> Floats:
    return np.asarray(pixels, np.float32) / np.float32(255.0)
