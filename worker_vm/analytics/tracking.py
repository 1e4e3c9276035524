"""Following things from frame to frame: an adapter over the library `trackers`.

ByteTrack: Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box"
(ECCV 2022). SORT: Bewley et al., "Simple Online and Realtime Tracking" (ICIP 2016). OC-SORT: Cao et
al., "Observation-Centric SORT" (CVPR 2023).
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import supervision as sv
from trackers import ByteTrackTracker, OCSORTTracker, SORTTracker

from worker_vm.analytics.boxes import Box, Detections, Frame, Track, area, overlap
from worker_vm.analytics.encounters import Encounters, Seen
from worker_vm.analytics.identity import Identity
from worker_vm.analytics.looks import Look

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
_WHOLE = 0.95
"""With less of it in the picture, it may be about to leave."""
_UNLIKE = 0.9
"""How unlike itself (0 to 2, looks and place) what leaves may be, or it is somebody else."""
_REPLACED = 0.15
"""By which share of its size what is leaving may be further in than it should be."""
_NEAR = 0.6
"""How far from where it should be a lost thing may turn up again, in heights of it."""
_SIMILAR = 0.7
"""And how much of its height it must have kept."""


class _Sighting(NamedTuple):
    """One detection, as the library takes it."""

    key: int
    """The library's id."""
    box: Box
    class_id: int
    confidence: float
    look: Look


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
        self._alive: dict[int, Identity] = {}
        """By the library's id."""
        self._encounters = Encounters()
        self._count = 0
        self._finished: list[int] = []
        self._time_s: float | None = None

    def update(self, detections: Detections, frame: Frame, time_s: float) -> list[Track]:
        """Return all tracks that are alive, those that are lost for now included, by id.

        Args:
            detections: what was found in this frame.
            frame: uint8 [height, width, 3]; its colours tell apart who has hidden each other.
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
        sightings = self._known(_sightings(found, frame), time_s) if len(found) else []
        tracks = self._settled(sightings, time_s)
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

    def _known(self, sightings: Iterable[_Sighting], time_s: float) -> list[_Sighting]:
        """Return what is taken for somebody, whose ids are living ones afterwards."""
        kept: list[_Sighting] = []
        # Those that are known first: the others may turn out to be what was lost.
        for one in sorted(sightings, key=lambda one: (one.key not in self._alive, one.key)):
            known = self._alive.get(one.key)
            if known is not None and self._is_replaced(known, one, time_s):
                self._end(one.key)
                continue
            if known is None:
                self._begin(one, {self._alive[other.key].number for other in kept}, time_s)
            kept.append(one)
        return kept

    def _begin(self, sighting: _Sighting, taken: AbstractSet[int], time_s: float) -> None:
        """Take it for the lost one that has turned up again, or for a new one."""
        near = {
            lost: distance
            for lost, identity in self._alive.items()
            if identity.number not in taken
            and identity.course.time_s < time_s
            and (expected := identity.course.expected(time_s))
            and (distance := _distance(expected, sighting.box)) <= _NEAR
            and not self._is_somebody_else(identity, sighting, expected)
        }
        if near:
            identity = self._alive.pop(min(near, key=near.__getitem__))
        else:
            self._count += 1
            identity = Identity(self._count)
        self._alive[sighting.key] = identity

    def _settled(self, sightings: Sequence[_Sighting], time_s: float) -> list[Track]:
        """Return all tracks, once it is clear who is who."""
        keys = {one.key for one in sightings}
        lost = self._still_lost(keys, time_s)
        seen = [Seen(self._alive[one.key], one.box, one.look) for one in sightings]
        owners = self._encounters.settle(time_s, seen, list(lost.values()))
        self._hand_over([one.key for one in sightings], owners, list(lost))
        for one, owner in zip(sightings, owners, strict=True):
            owner.see(time_s, one.box, one.class_id, one.confidence)
        return [
            identity.now(identity.course.box, is_seen=True)
            if identity.course.time_s == time_s
            else identity.now(identity.course.expected(time_s), is_seen=False)
            for identity in self._alive.values()
        ]

    def _hand_over(
        self, keys: Sequence[int], owners: Sequence[Identity], lost: Sequence[int]
    ) -> None:
        """Give the library's tracks to those whose they are."""
        before = [self._alive[key] for key in (*keys, *lost)]
        owning = {owner.number for owner in owners}
        others = [identity for identity in before if identity.number not in owning]
        for key, identity in zip((*keys, *lost), (*owners, *others), strict=True):
            self._alive[key] = identity

    def _still_lost(self, seen: AbstractSet[int], time_s: float) -> dict[int, tuple[Identity, Box]]:
        """Return who is not seen, and where they should be; end those who have been so for long."""
        lost = {}
        for key, identity in list(self._alive.items()):
            if key in seen:
                continue
            box = identity.course.expected(time_s)
            if time_s - identity.course.time_s > _LOST_S or self._share_inside(box) < _IN_PICTURE:
                self._end(key)
            else:
                lost[key] = identity, box
        return lost

    def _end(self, key: int) -> None:
        number = self._alive.pop(key).number
        self._encounters.forget(number)
        self._finished.append(number)

    def _is_replaced(self, known: Identity, sighting: _Sighting, time_s: float) -> bool:
        """Tell whether a thing that is leaving has been taken for one that comes in there."""
        expected, box = known.course.expected(time_s), sighting.box
        if self._is_somebody_else(known, sighting, expected):
            return True
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

    def _is_somebody_else(self, leaving: Identity, sighting: _Sighting, expected: Box) -> bool:
        """Tell whether neither looks nor place are those of one who is partly out already."""
        if self._share_inside(expected) >= _WHOLE:
            return False
        unlikeness = leaving.unlikeness(sighting.look)
        apart = 1 - overlap(self._part_inside(expected), sighting.box)
        return unlikeness is not None and unlikeness + apart > _UNLIKE

    def _part_inside(self, box: Box) -> Box:
        width, height = self._size
        left, top, right, bottom = box
        return max(left, 0.0), max(top, 0.0), min(right, width), min(bottom, height)

    def _share_inside(self, box: Box) -> float:
        return area(self._part_inside(box)) / max(area(box), 1e-9)


def _sightings(found: sv.Detections, frame: Frame) -> Iterator[_Sighting]:
    """Look at what the library has an id for."""
    boxes: list[Box] = list(map(tuple, found.xyxy.tolist()))
    ids, classes = found.tracker_id.tolist(), found.class_id.tolist()
    for place, confidence in enumerate(found.confidence.tolist()):
        if ids[place] >= 0:
            others = [*boxes[:place], *boxes[place + 1 :]]
            look = Look.at(frame, boxes[place], others)
            yield _Sighting(ids[place], boxes[place], classes[place], confidence, look)


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
