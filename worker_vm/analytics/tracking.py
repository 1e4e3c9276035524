"""Following things from frame to frame: an adapter over the library `trackers`.

ByteTrack: Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box"
(ECCV 2022). SORT: Bewley et al., "Simple Online and Realtime Tracking" (ICIP 2016). OC-SORT: Cao et
al., "Observation-Centric SORT" (CVPR 2023).
"""

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import supervision as sv
from trackers import ByteTrackTracker, OCSORTTracker, SORTTracker

from worker_vm.analytics.boxes import Box, Detections, Track
from worker_vm.analytics.course import Course

TrackerName = Literal["bytetrack", "sort", "ocsort"]
TRACKER_NAMES: tuple[TrackerName, ...] = get_args(TrackerName)

_LOST_S = 1.5
"""How long a track that is lost is waited for, in seconds."""
_MIN_FRAMES = 2
"""In how many frames a thing must be seen until it becomes a track."""
_MIN_IOU = 0.15
"""How much a detection must overlap with where a track should be by now."""
_LIBRARY_RATE = 30.0
"""Frames a second in which the library counts how long a track may be lost."""
_IN_PICTURE = 0.5
"""Which share of a lost thing should be in the picture at least; with less, it has left."""
_REPLACED = 0.15
"""By which share of its size what is leaving may be further in than it should be."""
_NEAR = 0.6
"""How far from where it should be a lost thing may turn up again, in heights of it."""
_SIMILAR = 0.7
"""And how much of its height it must have kept."""


@dataclass
class _Memory:
    """What is known of a track."""

    number: int
    course: Course = field(default_factory=Course)
    confidence: float = 0.0
    votes: Counter[int] = field(default_factory=Counter)

    def now(self, box: Box, *, is_seen: bool) -> Track:
        class_id = max(self.votes, key=self.votes.__getitem__)
        return Track(self.number, box, class_id, self.confidence, is_seen)


class Tracker:
    """Gives things an id that lasts. One per video; `make_tracker` makes it.

    The library joins detections to tracks. What it loses goes on here along its course, keeps its
    id if it turns up where it should be, and ends early if it has left the picture.
    """

    def __init__(
        self, library: ByteTrackTracker | OCSORTTracker | SORTTracker, size: tuple[int, int]
    ) -> None:
        self._library: Any = library
        self._size = size
        self._alive: dict[int, _Memory] = {}
        """By the library's id."""
        self._count = 0
        self._finished: list[int] = []
        self._time_s: float | None = None

    def update(self, detections: Detections, time_s: float) -> list[Track]:
        """Return all tracks that are alive, those that are lost for now included, by id.

        Args:
            detections: what was found in this frame.
            time_s: of this frame, greater than the one before. Gaps are fine: a track that has been
                lost for longer than a second and a half ends.

        Raises:
            ValueError: time does not move on.
        """
        if self._time_s is not None and not time_s > self._time_s:
            raise ValueError(f"A frame at {time_s} s cannot follow one at {self._time_s} s.")
        self._time_s = time_s
        given = sv.Detections(
            xyxy=detections.xyxy.astype(np.float64),
            confidence=detections.confidence,
            class_id=detections.class_id,
        )
        found = self._library.update(given, timestamp=time_s)
        tracks = self._seen(found, time_s) if len(found) else []
        tracks += self._lost({track.id for track in tracks}, time_s)
        self._library.tracks = [
            tracklet
            for tracklet in self._library.tracks
            if tracklet.tracker_id < 0 or tracklet.tracker_id in self._alive
        ]
        return sorted(tracks, key=lambda track: track.id)

    def finished(self) -> list[int]:
        """Return the ids of the tracks that have ended since the last call."""
        finished, self._finished = self._finished, []
        return finished

    def _seen(self, found: sv.Detections, time_s: float) -> list[Track]:
        rows = zip(
            found.tracker_id.tolist(), found.xyxy.tolist(), found.class_id.tolist(),
            found.confidence.tolist(), strict=True,
        )  # fmt: skip
        # Those that are known first: the others may turn out to be what was lost.
        known_first = sorted(
            (row for row in rows if row[0] >= 0),
            key=lambda row: (row[0] not in self._alive, row[0]),
        )
        tracks = []
        for identity, (left, top, right, bottom), class_id, confidence in known_first:
            box = (left, top, right, bottom)
            memory = self._alive.get(identity)
            if memory is not None and self._is_replaced(memory, box, time_s):
                self._end(identity)
                continue
            memory = memory or self._begin(identity, box, time_s)
            memory.course.add(time_s, box)
            memory.confidence = confidence
            memory.votes[class_id] += 1
            tracks.append(memory.now(box, is_seen=True))
        return tracks

    def _begin(self, identity: int, box: Box, time_s: float) -> _Memory:
        """Return the lost track that has turned up again, or a new one."""
        near = {
            lost: distance
            for lost, memory in self._alive.items()
            if memory.course.time_s < time_s
            and (distance := _distance(memory.course.expected(time_s), box)) <= _NEAR
        }
        if near:
            memory = self._alive.pop(min(near, key=near.__getitem__))
        else:
            self._count += 1
            memory = _Memory(self._count)
        self._alive[identity] = memory
        return memory

    def _lost(self, seen: set[int], time_s: float) -> list[Track]:
        tracks = []
        for identity, memory in list(self._alive.items()):
            if memory.number in seen:
                continue
            box = memory.course.expected(time_s)
            if time_s - memory.course.time_s > _LOST_S or self._share_inside(box) < _IN_PICTURE:
                self._end(identity)
            else:
                tracks.append(memory.now(box, is_seen=False))
        return tracks

    def _end(self, identity: int) -> None:
        self._finished.append(self._alive.pop(identity).number)

    def _is_replaced(self, memory: _Memory, box: Box, time_s: float) -> bool:
        """Tell whether a thing that was all but gone has been taken for one that comes in there."""
        expected = memory.course.expected(time_s)
        if self._share_inside(expected) >= _IN_PICTURE:
            return False
        width, height = self._size
        left, top, right, bottom = expected
        most = _REPLACED * (right - left), _REPLACED * (bottom - top)
        return (
            (left < 0 and box[2] > right + most[0])
            or (right > width and box[0] < left - most[0])
            or (top < 0 and box[3] > bottom + most[1])
            or (bottom > height and box[1] < top - most[1])
        )

    def _share_inside(self, box: Box) -> float:
        left, top, right, bottom = box
        width, height = self._size
        inside = (min(right, width) - max(left, 0.0)) * (min(bottom, height) - max(top, 0.0))
        area = (right - left) * (bottom - top)
        both = min(right, width) > max(left, 0.0) and min(bottom, height) > max(top, 0.0)
        return inside / area if both else 0.0


def _distance(expected: Box, box: Box) -> float:
    """Return how far apart two boxes' feet are, in heights; infinite if they differ in size."""
    tall, height = expected[3] - expected[1], box[3] - box[1]
    if min(tall, height) < _SIMILAR * max(tall, height):
        return math.inf
    across = max(expected[0] - box[0], box[2] - expected[2], 0.0)
    return max(across, abs(expected[3] - box[3])) / tall


def make_tracker(
    name: TrackerName, frame_rate: float, size: tuple[int, int], *, confidence: float = 0.5
) -> Tracker:
    """Return a tracker.

    Args:
        name: how detections are joined. `bytetrack` also uses unsure detections, to continue tracks
            that would else be lost; `ocsort` bears changes of direction while something is hidden;
            `sort` is the plainest.
        frame_rate: how many frames a second `update` will be given, about.
        size: width and height of the frames, in pixels.
        confidence: below it a detection is unsure: it starts no track.

    Raises:
        ValueError: there is no tracker of that name, or the rate is no positive number.
    """
    common: dict[str, Any] = {
        "lost_track_buffer": round(_LOST_S * _LIBRARY_RATE),
        "frame_rate": frame_rate,
        "minimum_consecutive_frames": _MIN_FRAMES,
        "minimum_iou_threshold": _MIN_IOU,
    }
    if name == "bytetrack":
        sure = {"track_activation_threshold": confidence, "high_conf_det_threshold": confidence}
        return Tracker(ByteTrackTracker(**common, **sure), size)
    if name == "sort":
        return Tracker(SORTTracker(**common, track_activation_threshold=confidence), size)
    if name == "ocsort":
        # It does not count the first frame.
        common["minimum_consecutive_frames"] -= 1
        return Tracker(OCSORTTracker(**common, high_conf_det_threshold=confidence), size)
    raise ValueError(f"There is no tracker {name!r}: choose one of {', '.join(TRACKER_NAMES)}.")
