"""One video, frame by frame: detect, track, watch zones, read, compare."""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from worker_vm.analytics.boxes import Detections, Frame, Track
from worker_vm.analytics.clusters import Clusters
from worker_vm.analytics.detector import Detector
from worker_vm.analytics.drawing import Scene, ZoneCount
from worker_vm.analytics.events import Event, EventType
from worker_vm.analytics.heat_map import HeatMap
from worker_vm.analytics.summary import scaled
from worker_vm.analytics.telemetry import Moment, Row
from worker_vm.analytics.text_reader import Text, TextReader
from worker_vm.analytics.track_book import TrackBook
from worker_vm.analytics.tracking import TrackerName, make_tracker
from worker_vm.analytics.zone_watch import ZoneWatch
from worker_vm.analytics.zones import Zone

_TEXT_SHOWN_S = 2.0
_LONGEST_STEP_S = 1.0
"""For how long a frame counts at most: in a gap nobody knows where things are."""


@dataclass(frozen=True)
class Plan:
    """What is to be done with a video."""

    tracker: TrackerName
    rate: float
    """Frames a second, about."""
    size: tuple[int, int]
    """Width and height of the frames."""
    confidence: float
    classes: frozenset[int] | None
    """Which are looked at; None for all."""
    zones: Sequence[Zone]
    """In pixels of the frames."""
    dwell_s: float
    read_every: int
    look_every: int
    scale: tuple[float, float]
    """Pixels of the video for each pixel of a frame, across and down."""


@dataclass
class Costs:
    """CPU time of this thread, by what it was used for, in seconds."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Count a block."""
        begun = time.thread_time()
        try:
            yield
        finally:
            self.seconds[name] += time.thread_time() - begun


class Analysis:
    """What is found out about one video.

    Args:
        plan: what to do.
        detector: a new one.
        reader: of texts; None if nothing is to be read.
        first: the first frame, for the heat map's background.
    """

    def __init__(
        self, plan: Plan, detector: Detector, reader: TextReader | None, first: Frame
    ) -> None:
        self._plan = plan
        self._detector = detector
        self._tracker = make_tracker(plan.tracker, plan.rate, plan.size, confidence=plan.confidence)
        self._names = detector.names
        self.zones = ZoneWatch(plan.zones, dwell_s=plan.dwell_s)
        self.book = TrackBook(self._names, plan.scale)
        self.clusters = Clusters()
        self.reader = reader
        self.heat = HeatMap(first)
        self.costs = Costs()
        self._frames = 0
        self._last_s: float | None = None
        self._shown: list[tuple[float, Text]] = []

    def step(self, frame: Frame, number: int, time_s: float) -> tuple[Moment, Scene]:
        """Analyse the next frame.

        Args:
            frame: [height, width, 3], blue, green, red.
            number: of the frame in the video.
            time_s: when it is shown, later than the one before.

        Returns:
            What there is to say of it, and what to draw into it.
        """
        costs, index = self.costs, self._frames
        self._frames += 1
        with costs.of("detect"):
            detections = self._wanted(self._detector.detect(frame, number, time_s))
        with costs.of("track"):
            tracks = self._tracker.update(detections, frame, time_s)
            events = self.book.update(tracks, time_s, number)
            events += self.zones.update(tracks, time_s, number)
            events += self._end(self._tracker.finished())
            step_s = 1 / self._plan.rate if self._last_s is None else time_s - self._last_s
            self.heat.add(tracks, min(step_s, _LONGEST_STEP_S))
        with costs.of("cluster"):
            if index % self._plan.look_every == 0:
                events += self._look(frame, tracks, number, time_s)
        with costs.of("read"):
            if self.reader is not None and index % self._plan.read_every == 0:
                events += self._read(self.reader, frame, number, time_s)
        self._last_s = time_s
        return Moment(number, round(time_s, 4), self._rows(tracks), events), self._scene(
            tracks, time_s
        )

    def finish(self) -> list[Event]:
        """The video has ended, and all tracks with it."""
        return self.zones.finish() + self.book.end_all()

    def _wanted(self, found: Detections) -> Detections:
        classes = self._plan.classes
        if classes is None:
            return found
        keep = np.isin(found.class_id, list(classes))
        return Detections(found.xyxy[keep], found.confidence[keep], found.class_id[keep])

    def _end(self, track_ids: Sequence[int]) -> list[Event]:
        for number in track_ids:
            self.clusters.forget(number)
        return self.book.end(track_ids)

    def _look(self, frame: Frame, tracks: list[Track], number: int, time_s: float) -> list[Event]:
        assigned = self.clusters.look(frame, tracks)
        self.book.assign(assigned)
        return [
            Event(
                EventType.CLUSTER_ASSIGNED,
                time_s,
                number,
                {"track_id": track_id, "cluster": cluster},
            )
            for track_id, cluster in assigned.items()
        ]

    def _read(self, reader: TextReader, frame: Frame, number: int, time_s: float) -> list[Event]:
        events = []
        for text in reader.read(frame, time_s):
            self._shown.append((time_s, text))
            box = scaled(text.box, self._plan.scale)
            data = {"text": text.text, "score": round(text.score, 3), "box": list(box)}
            events.append(Event(EventType.OCR_TEXT, time_s, number, data))
        return events

    def _rows(self, tracks: Sequence[Track]) -> list[Row]:
        return [
            Row(
                track.id,
                self._names[track.class_id],
                round(track.confidence, 4),
                scaled(track.box, self._plan.scale),
                track.is_seen,
                self.clusters.of(track.id),
            )
            for track in tracks
        ]

    def _scene(self, tracks: Sequence[Track], time_s: float) -> Scene:
        self._shown = [(since, t) for since, t in self._shown if since > time_s - _TEXT_SHOWN_S]
        figures = self.zones.figures
        return Scene(
            time_s=time_s,
            tracks=tracks,
            zones=[
                ZoneCount(f.occupancy, f.entries, f.exits)
                for f in (figures[zone.name] for zone in self._plan.zones)
            ],
            seen_so_far=self.book.count,
            texts=[(text.text, text.box) for _, text in self._shown],
        )
