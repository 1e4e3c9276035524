"""Boxes that mean nothing, drawn by seed: for trying a client without a video worth analysing."""

from collections.abc import Sequence
from math import pi

import numpy as np

from worker_vm.analytics.boxes import Detections, Frame

_THINGS = 4
_SMALLEST, _LARGEST = 0.08, 0.22
"""How high they are, as shares of the picture's height."""
_SLOWEST_S, _FASTEST_S = 30.0, 12.0
"""How long they take for their way to and fro."""


class MockDetector:
    """Some boxes that wander about smoothly, whatever the pictures show.

    Args:
        seed: the same one makes the same boxes.
    """

    names: Sequence[str] = ("mock",)
    warm_up_frames = 0

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self._turn = rng.uniform(0, 2 * pi, (_THINGS, 2))
        self._pace = 2 * pi / rng.uniform(_FASTEST_S, _SLOWEST_S, (_THINGS, 2))
        self._height = rng.uniform(_SMALLEST, _LARGEST, _THINGS)
        self._confidence = rng.uniform(0.8, 0.99, _THINGS).astype(np.float32)

    def warm_up(self, frames: Sequence[Frame]) -> None:
        """Nothing is to be learnt."""

    def detect(self, frame: Frame, index: int, time_s: float) -> Detections:  # noqa: ARG002
        """Where the boxes are by now."""
        height, width = frame.shape[:2]
        size = np.stack([self._height * height / 2, self._height * height], axis=1)
        room = np.array([width, height]) - size
        corner = room * (0.5 + 0.5 * np.sin(self._turn + self._pace * time_s))
        boxes = np.hstack([corner, corner + size]).astype(np.float32)
        return Detections(boxes, self._confidence, np.zeros(_THINGS, np.int32))
