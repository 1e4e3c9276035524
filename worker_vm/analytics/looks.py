"""How a thing looks: the colours of its upper and of its lower half.

Histograms of colour, one a half, of that part of a box that nobody else's box covers; compared by
Hellinger's distance (Comaniciu, Ramesh and Meer, "Kernel-Based Object Tracking", 2003).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from worker_vm.analytics.boxes import Box, Frame
from worker_vm.rendering.jit import kernel

Floats = NDArray[np.float32]

_HALVES = 2
_BINS = 7
"""Of each colour."""
_ACROSS, _DOWN = 12, 24
"""How many pixels of a box are looked at."""
_RIM = 0.1
"""Which share of a box's width is left out on each side: it is mostly background."""
_LEAST = 12
"""With fewer pixels a half is not known."""
_MEMORY = 16
"""About how many looks an average goes back."""


@dataclass(frozen=True)
class Look:
    """What could be seen of a thing, once or on average."""

    shares: Floats
    """[halves, bins³]: which share of each half has which colour, about."""
    pixels: Floats
    """[halves]: how many pixels of each half were looked at."""

    @classmethod
    def at(cls, frame: Frame, box: Box, others: Sequence[Box]) -> Self:
        """Look at a thing.

        Args:
            frame: uint8 [height, width, 3].
            box: where it is, in pixels of the frame; it may lie outside.
            others: boxes in which someone else may be seen instead.
        """
        shares = np.zeros((_HALVES, _BINS**3), np.float32)
        pixels = np.zeros(_HALVES, np.float32)
        in_the_way = np.array(others, np.float32).reshape(-1, 4)
        _count(frame, np.array(box, np.float32), in_the_way, shares, pixels)
        shares /= np.maximum(pixels, np.float32(1))[:, None]
        return cls(shares, pixels)

    @property
    def share(self) -> float:
        """Which share of the thing could be seen, 0 to 1."""
        return float(self.pixels.sum()) / (_ACROSS * _DOWN)

    def distance(self, other: "Look") -> float | None:
        """Return how different two looks are, 0 to 1; None if they have no half in common."""
        weights = np.minimum(self.pixels, other.pixels)
        weights[weights < _LEAST] = 0
        if not weights.any():
            return None
        alike = np.sqrt(self.shares * other.shares).sum(axis=1)
        apart = np.sqrt(np.maximum(1 - alike, 0))
        return float(apart @ weights / weights.sum())

    def learnt(self, seen: "Look", count: int) -> "Look":
        """Return the average with another look.

        Args:
            seen: the other one.
            count: of the looks that this one is the average of; beyond some, old ones fade.
        """
        weight = seen.pixels / np.maximum(seen.pixels + self.pixels * min(count, _MEMORY), 1)
        shares = self.shares + weight[:, None] * (seen.shares - self.shares)
        return Look(shares, self.pixels + weight * (seen.pixels - self.pixels))


@kernel
def _count(frame: Frame, box: Floats, others: Floats, shares: Floats, pixels: Floats) -> None:
    """Sort some pixels of a box into bins of colour, each into all that are near."""
    height, width = frame.shape[:2]
    inside = (1 - 2 * _RIM) * (box[2] - box[0])
    for v in range(_DOWN):
        y = box[1] + (v + 0.5) / _DOWN * (box[3] - box[1])
        half = v * _HALVES // _DOWN
        for u in range(_ACROSS):
            x = box[0] + _RIM * (box[2] - box[0]) + (u + 0.5) / _ACROSS * inside
            if x < 0 or y < 0 or x >= width or y >= height:
                continue
            hidden = False
            for n in range(len(others)):
                hidden |= others[n, 0] <= x < others[n, 2] and others[n, 1] <= y < others[n, 3]
            if hidden:
                continue
            pixels[half] += 1
            pixel = frame[int(y), int(x)]
            at0, at1, at2 = (
                pixel[0] * ((_BINS - 1) / 255.0),
                pixel[1] * ((_BINS - 1) / 255.0),
                pixel[2] * ((_BINS - 1) / 255.0),
            )
            for corner in range(8):
                place, weight = 0, 1.0
                for number, at in enumerate((at0, at1, at2)):
                    low = min(int(at), _BINS - 2)
                    upper = corner >> number & 1
                    place = place * _BINS + low + upper
                    weight *= at - low if upper else 1 - (at - low)
                shares[half, place] += weight
