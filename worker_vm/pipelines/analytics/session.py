"""The analysis of one video and what comes of it, from its first frame on."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from worker_vm.analytics.detector import Detector
from worker_vm.analytics.drawing import Painter
from worker_vm.analytics.event_log import EventLog
from worker_vm.analytics.settings import AnalyticsSettings
from worker_vm.analytics.summary import clusters_summary, texts_summary, zones_summary
from worker_vm.analytics.telemetry import Moment
from worker_vm.analytics.text_reader import TextReader
from worker_vm.analytics.zones import Zone, ZoneError, read_zones
from worker_vm.pipelines.analytics.analysis import Analysis, Plan
from worker_vm.pipelines.analytics.frame_facts import FrameFacts
from worker_vm.pipelines.analytics.parameters import Parameters
from worker_vm.pipelines.analytics.results import Artifact, Results
from worker_vm.pipelines.analytics.toolbox import Toolbox
from worker_vm.pipelines.base import PipelineError
from worker_vm.video.problems import VideoCode, VideoError
from worker_vm.video.records import RecordError


class Session:
    """Takes the frames of a video in order; leaving the `with` gives up what is not finished.

    Args:
        first: the first frame.
        wanted: the job's parameters.
        settings: of the operator.
        detector: of this video.
        toolbox: for the reader of texts.
        folder: for files.
        rate: frames a second, about.
        most_bytes: of all files together.
        tell: takes an event's type and data.

    Raises:
        VideoError: INVALID_ZONE or OUTPUT_WRITE_ERROR.
        PipelineError: INVALID_PARAMETERS, there is no such class.
    """

    def __init__(
        self,
        first: FrameFacts,
        wanted: Parameters,
        settings: AnalyticsSettings,
        detector: Detector,
        toolbox: Toolbox,
        *,
        folder: Path,
        rate: float,
        most_bytes: int,
        tell: Callable[[str, Mapping[str, Any]], None],
    ) -> None:
        self._wanted = wanted
        self._size = first.pixels.shape[1], first.pixels.shape[0]
        self._upright_size = first.upright_size
        self._scale = (
            self._upright_size[0] / self._size[0],
            self._upright_size[1] / self._size[1],
        )
        self._zones = _checked_zones(wanted, self._upright_size)
        plan = self._plan(rate, settings.confidence, _class_ids(wanted.classes, detector))
        reader = TextReader(toolbox.reading_engine()) if wanted.ocr else None
        self._analysis = Analysis(plan, detector, reader, first.pixels)
        self._events = EventLog(tell, settings.max_events, is_mock=wanted.mock_mode)
        self._results = Results(
            folder,
            wanted,
            Painter(*self._size, plan.zones, detector.names, is_mock=wanted.mock_mode),
            size=self._size,
            rate=rate,
            preset=settings.preset,
            most_bytes=most_bytes,
        )
        self._frames = 0
        self._first_s = self._last_s = first.time_s
        self._last_number = first.number

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._results.close()

    @property
    def frame_count(self) -> int:
        """How many frames were analysed."""
        return self._frames

    @property
    def status(self) -> str:
        """How far it is, for a person."""
        return f"{self._frames} frames, {self._analysis.book.count} tracks"

    def step(self, facts: FrameFacts) -> None:
        """Analyse, tell and draw the next frame.

        Raises:
            VideoError: OUTPUT_LIMIT or OUTPUT_WRITE_ERROR.
            RecordError: the frame cannot be the next one.
        """
        if self._frames and not (facts.time_s > self._last_s and facts.number > self._last_number):
            raise RecordError("a frame out of order")
        if facts.pixels.shape[1::-1] != self._size:
            raise RecordError("a frame of another size")
        self._last_s, self._last_number = facts.time_s, facts.number
        moment, scene = self._analysis.step(facts.pixels, facts.number, facts.time_s)
        self._events.add(moment.events)
        self._results.add(facts.pixels, moment, scene)
        self._frames += 1

    def finish(self, damage: object) -> list[Artifact]:
        """Write the end of everything; the files that are finished.

        Args:
            damage: what was wrong with the video.

        Raises:
            VideoError: OUTPUT_LIMIT or OUTPUT_WRITE_ERROR.
        """
        events = self._analysis.finish()
        self._events.add(events)
        self._results.note(Moment(self._last_number, round(self._last_s, 4), [], events))
        return self._results.finish(self._summary(damage), self._analysis.heat)

    def metrics(self) -> dict[str, float]:
        """Counts, and the CPU time of each part in seconds."""
        effort = self._results.effort
        costs = {**self._analysis.costs.seconds, "draw": effort.draw, "encode": effort.encode}
        return {
            "frame_count": float(self._frames),
            "track_count": float(self._analysis.book.count),
            "event_count": float(sum(self._events.counts.values())),
            **{f"cpu_{name}_seconds": seconds for name, seconds in costs.items()},
        }

    def _plan(self, rate: float, confidence: float, classes: frozenset[int] | None) -> Plan:
        wanted, (across, down) = self._wanted, self._scale
        return Plan(
            tracker=wanted.tracker,
            rate=rate,
            size=self._size,
            confidence=wanted.confidence or confidence,
            classes=classes,
            zones=[
                Zone(zone.name, tuple((x / across, y / down) for x, y in zone.points))
                for zone in self._zones
            ],
            dwell_s=wanted.dwell_s,
            read_every=wanted.ocr_interval,
            look_every=wanted.clustering_interval,
            scale=self._scale,
        )

    def _summary(self, damage: object) -> dict[str, Any]:
        analysis, reader = self._analysis, self._analysis.reader
        return {
            "mock": self._wanted.mock_mode,
            "video": {
                "width": self._upright_size[0],
                "height": self._upright_size[1],
                "annotated_width": self._size[0],
                "annotated_height": self._size[1],
                "first_s": round(self._first_s, 4),
                "last_s": round(self._last_s, 4),
                "frames_analysed": self._frames,
                "damage": damage or None,
            },
            "detector": "mock" if self._wanted.mock_mode else self._wanted.detector,
            "tracker": self._wanted.tracker,
            "zones": zones_summary(self._zones, analysis.zones.figures),
            "tracks": analysis.book.summary(),
            "clusters": clusters_summary(analysis.clusters.clusters),
            "texts": {
                "is_cut": reader is not None and reader.is_cut,
                "list": texts_summary(reader.texts, self._scale) if reader else [],
            },
            "events": self._events.summary(),
            "heat_map": "heat_map.png",
        }


def _checked_zones(wanted: Parameters, size: tuple[int, int]) -> list[Zone]:
    try:
        return read_zones(wanted.wanted_zones, *size)
    except ZoneError as error:
        raise VideoError(VideoCode.INVALID_ZONE, str(error)) from error


def _class_ids(names: list[str] | None, detector: Detector) -> frozenset[int] | None:
    """The classes that are wanted; None if all are.

    Raises:
        PipelineError: INVALID_PARAMETERS, the detector knows no such class.
    """
    if names is None:
        return None
    known = {name: number for number, name in enumerate(detector.names)}
    for name in names:
        if name not in known:
            some = ", ".join(list(known)[:20])
            raise PipelineError(
                "INVALID_PARAMETERS",
                f"The detector knows no class '{name}'; it knows {some}"
                f"{' and more' if len(known) > 20 else ''}.",  # noqa: PLR2004
                permanent=True,
            )
    return frozenset(known[name] for name in names)
