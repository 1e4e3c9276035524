"""The usual way to find what moves, to compare with: differences from a median, and blobs."""

from collections.abc import Sequence

import cv2
import numpy as np

from worker_vm.analytics.boxes import Detections, Frame

_DIFFERENCE = 28
_SMALLEST = 0.0007


class PlainDetector:
    """Every blob that differs from the median of the sampled frames is one thing."""

    names = ("moving",)
    warm_up_frames = 21

    def warm_up(self, frames: Sequence[Frame]) -> None:
        """Take the median."""
        self._ground = np.median(np.stack(frames), axis=0).astype(np.uint8)

    def detect(self, frame: Frame, index: int, time_s: float) -> Detections:
        """Return a box around each blob."""
        del index, time_s
        difference = cv2.absdiff(frame, self._ground).max(axis=2)
        mask = (difference > _DIFFERENCE).astype(np.uint8)
        mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((9, 7), np.uint8))
        outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        boxes = [
            (left, top, left + width, top + height)
            for outline in outlines
            for left, top, width, height in [cv2.boundingRect(outline)]
            if cv2.contourArea(outline) >= _SMALLEST * mask.size
        ]
        table = np.array(boxes, np.float32).reshape(-1, 4)
        return Detections(
            table, np.full(len(table), 0.9, np.float32), np.zeros(len(table), np.int32)
        )
