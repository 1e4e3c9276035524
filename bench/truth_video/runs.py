"""Runs a scene through detection, tracking and zones, as the pipeline does, and judges it."""

from collections.abc import Sequence

import numpy as np

from bench.truth_video import measures
from bench.truth_video.drawing import Drawn
from bench.truth_video.scenes import RATE, SIZE, Scene
from worker_vm.analytics.boxes import Detections, Frame
from worker_vm.analytics.detector import Detector
from worker_vm.analytics.events import Event
from worker_vm.analytics.tracking import TrackerName, make_tracker
from worker_vm.analytics.zone_watch import ZoneWatch
from worker_vm.analytics.zones import Zone, read_zones

WARM_UP_EVERY_S = 2.0
"""How far apart keyframes are, from which a detector learns the scene."""


class Oracle:
    """A detector that knows the truth, or most of it.

    Args:
        drawn: the video.
        missing: share of the boxes that it misses, in runs of a few frames.
        tremble: how far the edges of its boxes are off, as a standard deviation in pixels.
        seed: which ones, and how far.
    """

    names = ("thing",)
    warm_up_frames = 0

    def __init__(
        self, drawn: Sequence[Drawn], *, missing: float = 0.0, tremble: float = 0.0, seed: int = 0
    ) -> None:
        self._drawn = drawn
        self._rng = np.random.default_rng(seed)
        self._missing = missing
        self._tremble = tremble
        self._away: dict[int, int] = {}

    def warm_up(self, frames: Sequence[Frame]) -> None:
        """Learn nothing."""

    def detect(self, frame: Frame, index: int, time_s: float) -> Detections:
        """Return the boxes of all that can be seen."""
        del frame, time_s
        drawn = self._drawn[index]
        keep = (drawn.visible >= measures.VISIBLE) & self._attends(drawn.ids.tolist())
        boxes = drawn.boxes[keep]
        boxes = boxes + self._rng.normal(0, self._tremble, boxes.shape).astype(np.float32)
        count = len(boxes)
        return Detections(boxes, np.full(count, 0.9, np.float32), np.zeros(count, np.int32))

    def _attends(self, numbers: list[int]) -> np.ndarray:
        """Tell which actors it does not miss in this frame."""
        mean_run = 3
        for number in numbers:
            left = self._away.get(number, 0) - 1
            if left < 0 and self._rng.random() < self._missing / mean_run:
                left = int(self._rng.integers(1, 2 * mean_run))
            self._away[number] = left
        return np.array([self._away[number] <= 0 for number in numbers], bool)


def zones_of(scene: Scene, scale: float = 1.0) -> list[Zone]:
    """Return the scene's zones, read as the pipeline reads them."""
    given = [
        {"name": name, "points": [[x * scale, y * scale] for x, y in points]}
        for name, points in scene.zones
    ]
    return read_zones(given, round(SIZE[0] * scale), round(SIZE[1] * scale))


def warm_up(detector: Detector, drawn: Sequence[Drawn]) -> None:
    """Show a detector some frames from the whole video, as keyframes would be."""
    frames = drawn[:: round(WARM_UP_EVERY_S * RATE)]
    if detector.warm_up_frames:
        detector.warm_up([one.picture for one in frames[: detector.warm_up_frames]])


def analyse(
    drawn: Sequence[Drawn],
    zones: Sequence[Zone],
    detector: Detector,
    tracker: TrackerName,
    tolerance_s: float,
) -> tuple[measures.Figures, list[Event]]:
    """Return how near to the truth the detector and tracker come, and the events of the zones."""
    follow = make_tracker(tracker, RATE, drawn[0].picture.shape[1::-1])
    watch = ZoneWatch(zones)
    judge = measures.Judge()
    events = []
    for index, one in enumerate(drawn):
        time_s = index / RATE
        found = detector.detect(one.picture, index, time_s)
        tracks = follow.update(found, one.picture, time_s)
        judge.see(one, tracks)
        events += watch.update(tracks, time_s, index)
    events += watch.finish()
    figures = judge.figures()
    measures.judge_events(figures, measures.true_crossings(drawn, zones), events, tolerance_s)
    return figures, events
