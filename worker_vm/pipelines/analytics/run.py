"""One run of `video-analytics`: a confined child decodes, this side finds out and writes."""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from contract.kinds import ArtifactKind
from worker_vm.analytics.boxes import Frame
from worker_vm.analytics.settings import AnalyticsSettings
from worker_vm.analytics.telemetry import missing_package
from worker_vm.pipelines.analytics.frame_facts import FrameFacts
from worker_vm.pipelines.analytics.parameters import Parameters, read_parameters
from worker_vm.pipelines.analytics.request import Request
from worker_vm.pipelines.analytics.results import Artifact
from worker_vm.pipelines.analytics.session import Session
from worker_vm.pipelines.analytics.toolbox import Toolbox
from worker_vm.pipelines.analytics.writing import writing
from worker_vm.pipelines.base import PipelineError, Reporter, RunInput
from worker_vm.video.child import decode_confined
from worker_vm.video.input import Video
from worker_vm.video.problems import PASSING, VideoError
from worker_vm.video.raw_frames import LONGEST_SIDE
from worker_vm.video.records import Record, RecordError
from worker_vm.video.sampling import exact
from worker_vm.video.settings import VideoSettings, read_settings

_DECODER = "worker_vm.pipelines.analytics.decoder"
_LIBRARIES = (
    "av",
    "numpy",
    "onnxruntime",
    "opencv-python-headless",
    "pillow",
    "rapidocr",
    "scipy",
    "supervision",
    "trackers",
)
_COUNTS = ("frame_count", "track_count", "event_count")
_USUAL_RATE = 25.0
_HIGHEST_RATE = 240.0
_BYTES_A_PIXEL = 3


class Run:
    """The stages read, analyse and finish, in that order.

    Args:
        job: the attempt.
        report: to the outside.
        pipeline_version: for the manifest.
        toolbox: what is loaded already.
        settings: of the operator.
    """

    def __init__(
        self,
        job: RunInput,
        report: Reporter,
        pipeline_version: str,
        toolbox: Toolbox,
        settings: AnalyticsSettings,
    ) -> None:
        self._job = job
        self._report = report
        self._version = pipeline_version
        self._toolbox = toolbox
        self._settings = settings
        self._limits: VideoSettings = read_settings()
        self._wanted: Parameters = read_parameters(job.params)
        self._most_frames = min(settings.max_frames, self._wanted.max_frames or settings.max_frames)
        self._folder = job.work_dir / "output"
        self._source: dict[str, Any] = {}
        self._samples: list[Frame] = []
        self._session: Session | None = None
        self._done: dict[str, Any] = {}
        self._told = (1.0, "read", "Reading the video")

    def execute(self) -> dict[str, float]:
        """Run all stages and return the metrics.

        Raises:
            PipelineError: see docs/video-analytics.md.
        """
        begun = time.monotonic()
        package = missing_package(self._wanted.telemetry)
        if package:
            raise PipelineError(
                "INVALID_PARAMETERS",
                f"This worker has no {package}, so there is no telemetry as Parquet; ask for jsonl"
                " or csv.",
                permanent=True,
            )
        self._folder.mkdir(exist_ok=True)
        try:
            with ExitStack() as self._open:
                peak = self._analyse()
                session = self._session
                assert session is not None
                self._tell(97, "finish", "Finishing the annotated video")
                files = session.finish(self._done.get("damage"))
                path = self._folder / "manifest.json"
                metrics = session.metrics()
                with writing("the manifest"):
                    manifest = json.dumps(self._manifest(files, metrics), indent=1)
                    path.write_text(manifest + "\n", encoding="utf-8")
        except VideoError as error:
            raise PipelineError(
                error.code, error.message, permanent=error.code not in PASSING
            ) from error
        files.append(Artifact(ArtifactKind.MANIFEST, path, "application/json"))
        for file in files:
            self._report.artifact(file.kind, file.path, file.media_type)
        self._tell(100, "finish", "Done")
        seconds = time.monotonic() - begun
        return {
            **metrics,
            "processing_time_seconds": seconds,
            "frames_per_second": metrics["frame_count"] / max(seconds, 1e-6),
            "decoder_peak_memory_bytes": float(peak),
        }

    def _analyse(self) -> int:
        """Have the child decode, and look at each frame; how much memory the child held.

        Raises:
            VideoError: the child's reason, or that it broke down.
            PipelineError: there is no such detector.
        """
        self._video = Video.of(self._job, "video_path")
        media_type = self._video.media_type()
        confidence = self._wanted.confidence or self._settings.confidence
        self._detector = self._toolbox.detector(self._wanted, confidence)
        self._tell(*self._told)
        return decode_confined(
            self._video,
            _DECODER,
            json.dumps(asdict(self._request(media_type))),
            memory_bytes=self._limits.memory_bytes,
            work_seconds=self._settings.work_seconds,
            largest_body=self._wanted.max_width * LONGEST_SIDE * _BYTES_A_PIXEL,
            take=self._take,
            idle=lambda: self._tell(*self._told),
        )

    def _request(self, media_type: str) -> Request:
        wanted = self._wanted
        return Request(
            media_type=media_type,
            size_bytes=self._video.size_bytes,
            fps=str(exact(wanted.fps)),
            start=str(exact(wanted.start_s)),
            end=None if wanted.end_s is None else str(exact(wanted.end_s)),
            max_frames=wanted.max_frames,
            frame_limit=self._settings.max_frames,
            duplicate_limit=self._limits.max_copies,
            max_pixels=self._limits.max_pixels,
            max_seconds=self._limits.max_seconds,
            max_width=wanted.max_width,
            partial=wanted.on_damage == "partial",
            samples=self._detector.warm_up_frames,
        )

    def _take(self, record: Record) -> None:
        if record.type == "frame":
            self._take_frame(record)
        elif record.type == "sample" and len(self._samples) < self._detector.warm_up_frames:
            self._samples.append(FrameFacts.of(record, self._wanted.max_width).pixels)
            self._tell(*self._told)
        elif record.type == "source":
            self._source = record.facts
        elif record.type == "done":
            if self._session is None:
                raise RecordError("it made no frame")
            self._done = record.facts
        else:
            raise RecordError(f"an unknown record {record.type[:40]!r}")

    def _take_frame(self, record: Record) -> None:
        facts = FrameFacts.of(record, self._wanted.max_width)
        if self._session is None:
            self._detector.warm_up(self._samples)
            self._samples.clear()
            self._session = self._begin(facts)
        elif self._session.frame_count >= self._most_frames:
            raise RecordError(f"more than {self._most_frames} frames")
        self._session.step(facts)
        share = min(max(record.number("share"), 0), 1)
        self._tell(3 + 93 * share, "analyse", self._session.status)

    def _begin(self, first: FrameFacts) -> Session:
        rate = self._wanted.fps or self._source.get("frame_rate")
        if (
            isinstance(rate, bool)
            or not isinstance(rate, int | float)
            or not 0 < rate < _HIGHEST_RATE
        ):
            rate = _USUAL_RATE
        return self._open.enter_context(
            Session(
                first,
                self._wanted,
                self._settings,
                self._detector,
                self._toolbox,
                folder=self._folder,
                rate=float(rate),
                most_bytes=self._limits.max_output_bytes,
                tell=self._report.event,
            )
        )

    def _manifest(self, files: Sequence[Artifact], metrics: Mapping[str, float]) -> dict[str, Any]:
        """How the results were made, and what they are."""
        parameters = self._wanted.model_dump(mode="json")
        for name in ("telemetry", "previews"):
            parameters[name] = sorted(parameters[name])
        seen = self._done.get("seen")
        return {
            "model": self._job.model_id,
            "model_version": self._job.model_version,
            "pipeline": "video-analytics",
            "pipeline_version": self._version,
            "mock": self._wanted.mock_mode,
            "parameters": parameters,
            "source": {
                **self._source,
                "bytes": self._video.size_bytes,
                **(seen if isinstance(seen, dict) else {}),
            },
            "damage": self._done.get("damage") or None,
            "results": {
                **{name: int(metrics[name]) for name in _COUNTS},
                "sha256": {file.path.name: _sha256(file.path) for file in files},
            },
            "libraries": _versions(),
        }

    def _tell(self, percent: float, stage: str, message: str) -> None:
        self._told = (max(percent, self._told[0]), stage, message)
        self._report.progress(*self._told)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _versions() -> dict[str, str]:
    """Of what is installed; OpenCV may be installed under another name."""
    found = {}
    for name in _LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
