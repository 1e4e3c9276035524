"""Boxes around things in one frame: as detected, and as followed from frame to frame."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]
"""A picture [height, width, 3], blue, green, red."""
Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels of the frame; right and bottom lie outside of the thing."""


def area(box: Box) -> float:
    """Return how many pixels a box has; 0 if it is turned inside out."""
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


def common_area(one: Box, other: Box) -> float:
    """Return how many pixels two boxes have in common."""
    return area(
        (max(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), min(one[3], other[3]))
    )


def overlap(one: Box, other: Box) -> float:
    """Return the intersection of two boxes over their union, 0 to 1."""
    common = common_area(one, other)
    return common / max(area(one) + area(other) - common, 1e-9)


@dataclass(frozen=True)
class Detections:
    """What a detector found in one frame; the three arrays have one row per thing."""

    xyxy: NDArray[np.float32]
    """[n, 4]: left, top, right, bottom in pixels of the frame."""
    confidence: NDArray[np.float32]
    """[n], 0 to 1."""
    class_id: NDArray[np.int32]
    """[n], an index into the detector's `names`."""

    @classmethod
    def none(cls) -> Self:
        """Return no detections."""
        return cls(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int32))

    def __len__(self) -> int:
        return len(self.xyxy)


@dataclass(frozen=True)
class Track:
    """One thing in one frame, known by the same id in every frame."""

    id: int
    """From 1 on, in order of first appearance, without gaps."""
    box: Box
    """Where it was detected, or, while it is lost, where it should be by now."""
    class_id: int
    """What it has been taken for most often so far."""
    confidence: float
    """Of its latest detection."""
    is_seen: bool
    """False while it is lost: hidden, or missed by the detector."""
