"""Spread colours from where they are known."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


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
