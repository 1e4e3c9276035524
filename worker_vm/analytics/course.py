"""Where a thing has been lately, and where it should be by now."""

from collections import deque
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from worker_vm.analytics.boxes import Box

_MEMORY_S = 1.0
_SIZE_QUANTILE = 0.8
_STILL_S = 0.4
_STILL_SHARE = 0.03
"""By which share of its height a box may tremble and still be in its place."""


class Course:
    """The boxes of the last second.

    Whatever hides a thing, or the picture's border as it leaves, holds one edge of its box while
    the opposite one moves on. So the quicker edge tells how fast the thing moves, and where it is.
    """

    def __init__(self, past: Iterable[tuple[float, Box]] = ()) -> None:
        self._past = deque(past)

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._past)

    def copy(self) -> "Course":
        """Return what is known so far, to go on from there in another way."""
        return Course(self._past)

    @property
    def box(self) -> Box:
        """The latest box."""
        return self._past[-1][1]

    @property
    def time_s(self) -> float:
        """When that was."""
        return self._past[-1][0]

    def add(self, time_s: float, box: Box) -> None:
        """Take up where the thing is seen now."""
        self._past.append((time_s, box))
        while self._past[0][0] < time_s - _MEMORY_S:
            self._past.popleft()

    @property
    def is_still(self) -> bool:
        """Whether the box has been in its place for a while, half a second or so."""
        time_s, box = self._past[-1]
        earlier = [past for time, past in self._past if time >= time_s - _STILL_S]
        away = np.abs(np.array(earlier) - np.array(box)).max()
        tolerance = 1.0 + _STILL_SHARE * (box[3] - box[1])
        return bool(time_s - self._past[0][0] >= _STILL_S and away <= tolerance)

    def expected(self, time_s: float) -> Box:
        """Return where the whole of it should be, if it has moved on evenly and kept its size."""
        times = np.array([time for time, _ in self._past])
        boxes = np.array([box for _, box in self._past])
        speeds = _slopes(times, boxes)
        sizes = _quantile(boxes[:, 2:] - boxes[:, :2], _SIZE_QUANTILE)
        last, elapsed = boxes[-1], time_s - self.time_s
        edges = []
        for low, high, size in ((0, 2, sizes[0]), (1, 3, sizes[1])):
            if abs(speeds[low]) > abs(speeds[high]):
                start = last[low] + speeds[low] * elapsed
            else:
                start = last[high] + speeds[high] * elapsed - size
            edges.append((float(start), float(start + size)))
        (left, right), (top, bottom) = edges
        return left, top, right, bottom


def _quantile(values: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Return what `numpy.quantile` does of each column, in a tenth of the time."""
    ordered = np.sort(values, axis=0)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    result: NDArray[np.float64] = ordered[low] + (place - low) * (ordered[high] - ordered[low])
    return result


def _slopes(times: NDArray[np.float64], boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how fast each edge moves, in pixels a second (least squares)."""
    apart = times - times.mean()
    spread = float(apart @ apart)
    slopes: NDArray[np.float64] = apart @ boxes / spread if spread else np.zeros(4)
    return slopes
