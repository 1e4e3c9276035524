"""What is known of each track: when it was there, how far it went, what it looks like."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import hypot
from typing import Any

from worker_vm.analytics.boxes import Track
from worker_vm.analytics.events import Event, EventType

_MOST_LISTED = 10_000


@dataclass
class _Entry:
    class_id: int
    first_s: float
    last_s: float
    last_frame: int
    foot: tuple[float, float]
    frames: int = 0
    distance: float = 0.0
    cluster: int | None = None


class TrackBook:
    """Follows the tracks of a video from their start to their end.

    Args:
        names: of the classes.
        scale: pixels of the video for each pixel of a frame, across and down.
    """

    def __init__(self, names: Sequence[str], scale: tuple[float, float]) -> None:
        self._names = names
        self._scale = scale
        self._alive: dict[int, _Entry] = {}
        self._listed: list[dict[str, Any]] = []
        self._classes: Counter[str] = Counter()
        self.count = 0
        """How many tracks there have been."""

    def update(self, tracks: Iterable[Track], time_s: float, frame: int) -> list[Event]:
        """See all tracks that are alive; which of them are new."""
        started = []
        for track in tracks:
            entry = self._alive.get(track.id)
            foot = self._foot(track)
            if entry is None:
                entry = self._alive[track.id] = _Entry(track.class_id, time_s, time_s, frame, foot)
                self.count += 1
                data = {"track_id": track.id, "class": self._names[track.class_id]}
                started.append(Event(EventType.TRACK_START, time_s, frame, data))
            if track.is_seen:
                entry.distance += hypot(foot[0] - entry.foot[0], foot[1] - entry.foot[1])
                entry.class_id, entry.foot = track.class_id, foot
                entry.last_s, entry.last_frame = time_s, frame
                entry.frames += 1
        return started

    def assign(self, clusters: dict[int, int]) -> None:
        """Tracks have been given a cluster."""
        for track_id, cluster in clusters.items():
            self._alive[track_id].cluster = cluster

    def end(self, track_ids: Iterable[int]) -> list[Event]:
        """Tracks have ended, each when it was seen last."""
        return [self._end(number) for number in track_ids if number in self._alive]

    def end_all(self) -> list[Event]:
        """The video has ended."""
        return self.end(list(self._alive))

    def summary(self) -> dict[str, Any]:
        """All that have ended."""
        return {
            "count": self.count,
            "by_class": dict(sorted(self._classes.items())),
            "is_cut": sum(self._classes.values()) > len(self._listed),
            "list": self._listed,
        }

    def _end(self, number: int) -> Event:
        entry = self._alive.pop(number)
        name = self._names[entry.class_id]
        self._classes[name] += 1
        seconds = round(entry.last_s - entry.first_s, 4)
        if len(self._listed) < _MOST_LISTED:
            self._listed.append(
                {
                    "id": number,
                    "class": name,
                    "first_s": round(entry.first_s, 4),
                    "last_s": round(entry.last_s, 4),
                    "frames": entry.frames,
                    "distance_px": round(entry.distance, 1),
                    "cluster": entry.cluster,
                }
            )
        data = {"track_id": number, "class": name, "seconds": seconds}
        return Event(EventType.TRACK_END, entry.last_s, entry.last_frame, data)

    def _foot(self, track: Track) -> tuple[float, float]:
        left, _, right, bottom = track.box
        return (left + right) / 2 * self._scale[0], bottom * self._scale[1]
