"""How near to the truth tracks and events come."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import cv2
import motmetrics
import numpy as np
import supervision as sv
from numpy.typing import NDArray

from bench.truth_video.drawing import Drawn
from bench.truth_video.scenes import RATE
from worker_vm.analytics.boxes import Track
from worker_vm.analytics.events import Event, EventType
from worker_vm.analytics.zones import Zone

VISIBLE = 0.3
"""The share of a figure that must show for it to count."""
_SAME = 0.5
"""The overlap (intersection over union) from which on a box is the right one."""
_BRIEF_S = 0.2
"""Visits to a zone, and pauses in them, that are shorter do not count."""
_CROSSINGS = (EventType.ZONE_ENTER, EventType.ZONE_EXIT)


@dataclass
class Figures:
    """What was measured in one scene, or, added up, in several."""

    objects: int = 0
    misses: int = 0
    false_positives: int = 0
    switches: int = 0
    id_hits: int = 0
    """Boxes that carry the id which fits their object best over the whole video."""
    id_boxes: int = 0
    """Boxes of the truth and of the tracks together."""
    events: int = 0
    events_found: int = 0
    events_wrong: int = 0
    late_s: list[float] = field(default_factory=list)
    """How far in time the events found are from the truth, positive if late."""

    @property
    def mota(self) -> float:
        """Multiple object tracking accuracy (Bernardin and Stiefelhagen 2008)."""
        wrong = self.misses + self.false_positives + self.switches
        return 1 - wrong / self.objects if self.objects else float(wrong == 0)

    @property
    def idf1(self) -> float:
        """Share of the boxes that carry the right identity (Ristani et al. 2016)."""
        return 2 * self.id_hits / self.id_boxes if self.id_boxes else 1.0

    def add(self, other: "Figures") -> None:
        """Take up another scene."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


class Judge:
    """Compares one scene's tracks with the truth, frame by frame."""

    def __init__(self) -> None:
        self._accumulator = motmetrics.MOTAccumulator(auto_id=True)

    def see(self, drawn: Drawn, tracks: Iterable[Track]) -> None:
        """Take up one frame; tracks that are lost at the moment make no claim."""
        shown = drawn.visible >= VISIBLE
        seen = [track for track in tracks if track.is_seen]
        boxes = np.array([track.box for track in seen], np.float32).reshape(-1, 4)
        overlap = sv.box_iou_batch(drawn.boxes[shown], boxes)
        distance = np.where(overlap >= _SAME, 1 - overlap, np.nan)
        # What shows too little of itself is neither to be found nor wrong if found.
        hidden = sv.box_iou_batch(drawn.boxes[~shown], boxes)
        ignored = (hidden >= _SAME).any(axis=0) & ~(overlap >= _SAME).any(axis=0)
        self._accumulator.update(
            drawn.ids[shown].tolist(),
            [track.id for track, skip in zip(seen, ignored, strict=True) if not skip],
            distance[:, ~ignored],
        )

    def figures(self) -> Figures:
        """Return what was measured, without events."""
        names = ("num_objects", "num_misses", "num_false_positives", "num_switches")
        names = (*names, "idtp", "num_predictions")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # shares of nothing in an empty scene
            row = motmetrics.metrics.create().compute(self._accumulator, metrics=list(names))
        objects, misses, wrong, switches, hits, claims = (int(row[name].iloc[0]) for name in names)
        return Figures(objects, misses, wrong, switches, hits, objects + claims)


@dataclass(frozen=True)
class Crossing:
    """Someone enters or leaves a zone."""

    kind: EventType
    zone: str
    time_s: float


def true_crossings(drawn: Sequence[Drawn], zones: Iterable[Zone]) -> list[Crossing]:
    """Return who enters and leaves the zones, in truth.

    An actor counts from the first to the last frame in which enough shows of it; hidden in between,
    it is where it is.
    """
    feet: dict[int, dict[int, tuple[float, float]]] = {}
    shown: dict[int, list[int]] = {}
    for frame, one in enumerate(drawn):
        for number, box, visible in zip(one.ids.tolist(), one.boxes, one.visible, strict=True):
            feet.setdefault(number, {})[frame] = (float(box[0] + box[2]) / 2, float(box[3]))
            if visible >= VISIBLE:
                shown.setdefault(number, []).append(frame)
    crossings = []
    for number, frames in shown.items():
        way = [(frame, feet[number][frame]) for frame in range(frames[0], frames[-1] + 1)]
        for zone in zones:
            crossings += _visits(way, zone)
    return crossings


def _visits(way: Sequence[tuple[int, tuple[float, float]]], zone: Zone) -> list[Crossing]:
    outline = np.array(zone.points, np.float32)
    inside = np.array(
        [cv2.pointPolygonTest(outline, foot, measureDist=False) >= 0 for _, foot in way]
    )
    brief = round(_BRIEF_S * RATE)
    for value in (True, False):  # first the pauses, then the visits
        for start, stop in _runs(inside != value):
            if stop - start < brief and start > 0 and stop < len(inside):
                inside[start:stop] = value
    crossings = []
    for start, stop in _runs(inside):
        if stop - start < brief:
            continue
        last = stop if stop < len(way) else stop - 1
        crossings.append(Crossing(EventType.ZONE_ENTER, zone.name, way[start][0] / RATE))
        crossings.append(Crossing(EventType.ZONE_EXIT, zone.name, way[last][0] / RATE))
    return crossings


def _runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def judge_events(
    figures: Figures, truth: Iterable[Crossing], events: Iterable[Event], tolerance_s: float
) -> None:
    """Match events to the true crossings, the nearest first, each at most once."""
    left = [
        Crossing(event.type, event.data["zone"], event.time_s)
        for event in events
        if event.type in _CROSSINGS
    ]
    expected = list(truth)
    figures.events += len(expected)
    pairs = sorted(
        (abs(found.time_s - true.time_s), number, place)
        for number, true in enumerate(expected)
        for place, found in enumerate(left)
        if (found.kind, found.zone) == (true.kind, true.zone)
    )
    matched, used = set(), set()
    for distance, number, place in pairs:
        if distance <= tolerance_s + 1e-6 and number not in matched and place not in used:
            matched.add(number)
            used.add(place)
            figures.late_s.append(left[place].time_s - expected[number].time_s)
    figures.events_found += len(matched)
    figures.events_wrong += len(left) - len(used)
