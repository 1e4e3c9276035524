"""What a run of `video-analytics` without a worker tells and leaves behind."""

import csv
import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from inflate_runs import Recorder

from worker_vm.pipelines.base import Pipeline, RunInput
from worker_vm.pipelines.registry import load_pipeline


@dataclass
class AnalyticsOutcome:
    """What a run left behind."""

    recorder: Recorder
    metrics: dict[str, float]

    def path(self, name: str) -> Path:
        """Where an artifact lies."""
        return self.recorder.artifacts[name][1]

    @property
    def analytics(self) -> dict[str, Any]:
        """What was found."""
        return json.loads(self.path("analytics.json").read_text())

    @property
    def manifest(self) -> dict[str, Any]:
        """How it was made."""
        return json.loads(self.path("manifest.json").read_text())

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Telemetry, a line for each frame and one for the end."""
        return [json.loads(line) for line in self.path("telemetry.jsonl").read_text().splitlines()]

    @property
    def rows(self) -> list[dict[str, str]]:
        """Telemetry, a row for each track in each frame."""
        with self.path("telemetry.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    @property
    def events(self) -> list[tuple[str, dict[str, Any]]]:
        """What was told while it ran."""
        return self.recorder.events

    def of_type(self, name: str) -> list[dict[str, Any]]:
        """Events of one type."""
        return [data for kind, data in self.events if kind == name]

    def pictures(self) -> list[tuple[float, np.ndarray]]:
        """The annotated video: when, and what."""
        with av.open(str(self.path("annotated.mp4"))) as container:
            return [
                (float(f.time), f.to_ndarray(format="bgr24")) for f in container.decode(video=0)
            ]


def analyse(
    path: Path, work_dir: Path, *, pipeline: Pipeline | None = None, **parameters: Any
) -> AnalyticsOutcome:
    """Run the pipeline on a file; it does not read texts unless asked to."""
    recorder = Recorder()
    work_dir.mkdir(exist_ok=True)
    if pipeline is None:
        pipeline = load_pipeline("video-analytics")()
        pipeline.setup()
    job = RunInput(
        job_id=uuid.uuid4(),
        model_id="video-analytics-v1",
        model_version="1.0.0",
        params={"video_path": "uploads/video", "ocr": False, **parameters},
        prompt=None,
        inputs={"video_path": path},
        work_dir=work_dir,
    )
    return AnalyticsOutcome(recorder, pipeline.run(job, recorder))
