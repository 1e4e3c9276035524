"""The cut-out as the model wants to see it: a transparent square, the subject in its middle."""

import cv2
import numpy as np
from numpy.typing import NDArray

from worker_vm.cutout import Subject

SIDE = 1024
"""Twice what the model looks at, so that upstream's own scaling has something to choose from."""

_OPAQUE = 255.0


def frame(subject: Subject, ratio: float) -> NDArray[np.uint8]:
    """Place a subject in a square (SIDE, SIDE, 4), straight alpha.

    Args:
        subject: the cut-out.
        ratio: the share of the square's side that the subject's longer side takes.
    """
    solid = subject.alpha * _OPAQUE >= 1.0
    rows, cols = np.flatnonzero(solid.any(axis=1)), np.flatnonzero(solid.any(axis=0))
    inside = (slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1))
    # Colours are scaled by their weight: those of the cleared background must not bleed in.
    alpha = subject.alpha[inside]
    weighted = np.dstack([subject.rgb[inside].astype(np.float32) * alpha[..., None], alpha])
    factor = ratio * SIDE / max(alpha.shape)
    height, width = (min(SIDE, max(1, round(side * factor))) for side in alpha.shape)
    mode = cv2.INTER_AREA if factor < 1.0 else cv2.INTER_LINEAR
    scaled = cv2.resize(weighted, (width, height), interpolation=mode)
    cover = np.clip(scaled[..., 3:], 0.0, 1.0)
    colours = scaled[..., :3] / np.maximum(cover, 1.0 / _OPAQUE)
    square = np.zeros((SIDE, SIDE, 4), np.uint8)
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    square[top : top + height, left : left + width] = np.rint(
        np.clip(np.dstack([colours, cover * _OPAQUE]), 0.0, _OPAQUE)
    )
    return square
