"""Following things from frame to frame: an adapter over the library `trackers`.

ByteTrack: Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box"
(ECCV 2022). SORT: Bewley et al., "Simple Online and Realtime Tracking" (ICIP 2016). OC-SORT: Cao et
al., "Observation-Centric SORT" (CVPR 2023).
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import supervision as sv
from trackers import ByteTrackTracker, OCSORTTracker, SORTTracker

from worker_vm.analytics.boxes import Box, Detections, Track

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


@dataclass
class _Memory:
    """What is known of a track besides its box."""

    confidence: float
    votes: Counter[int] = field(default_factory=Counter)

    def see(self, class_id: int, confidence: float) -> None:
        self.confidence = confidence
        self.votes[class_id] += 1

    @property
    def class_id(self) -> int:
        return max(self.votes, key=self.votes.__getitem__)


class Tracker:
    """Gives things an id that lasts. One per video; `make_tracker` makes it."""

    def __init__(self, library: ByteTrackTracker | OCSORTTracker | SORTTracker) -> None:
        self._library: Any = library
        self._alive: dict[int, _Memory] = {}
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
        tracks = self._seen(found) if len(found) else {}
        for tracklet in self._library.tracks:
            number = tracklet.tracker_id + 1
            if number in self._alive and number not in tracks:
                memory = self._alive[number]
                box = _ordered(tracklet.get_state_bbox())
                tracks[number] = Track(number, box, memory.class_id, memory.confidence, False)  # noqa: FBT003
        self._forget(tracks)
        return [tracks[number] for number in sorted(tracks)]

    def finished(self) -> list[int]:
        """Return the ids of the tracks that have ended since the last call."""
        finished, self._finished = self._finished, []
        return finished

    def _seen(self, found: sv.Detections) -> dict[int, Track]:
        tracks = {}
        rows = zip(found.tracker_id, found.xyxy, found.class_id, found.confidence, strict=True)
        for tracker_id, box, class_id, confidence in rows:
            if tracker_id < 0:
                continue
            number = int(tracker_id) + 1
            memory = self._alive.setdefault(number, _Memory(float(confidence)))
            memory.see(int(class_id), float(confidence))
            tracks[number] = Track(
                number, _ordered(box), memory.class_id, memory.confidence, is_seen=True
            )
        return tracks

    def _forget(self, alive: dict[int, Track]) -> None:
        for number in [number for number in self._alive if number not in alive]:
            del self._alive[number]
            self._finished.append(number)


def make_tracker(name: TrackerName, frame_rate: float, *, confidence: float = 0.5) -> Tracker:
    """Return a tracker.

    Args:
        name: how detections are joined. `bytetrack` also uses unsure detections, to continue tracks
            that would else be lost; `ocsort` bears changes of direction while something is hidden;
            `sort` is the plainest.
        frame_rate: how many frames a second `update` will be given, about.
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
        return Tracker(ByteTrackTracker(**common, **sure))
    if name == "sort":
        return Tracker(SORTTracker(**common, track_activation_threshold=confidence))
    if name == "ocsort":
        return Tracker(OCSORTTracker(**common, high_conf_det_threshold=confidence))
    raise ValueError(f"There is no tracker {name!r}: choose one of {', '.join(TRACKER_NAMES)}.")


def _ordered(box: np.ndarray[Any, Any]) -> Box:
    """Return the box with right and bottom not before left and top, however it was predicted."""
    left, top, right, bottom = (float(edge) for edge in box)
    return left, top, max(left, right), max(top, bottom)
