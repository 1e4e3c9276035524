"""What a run of `video-analytics` without a worker tells and leaves behind."""

import csv
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
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


@dataclass(frozen=True)
class Walk:
    """A figure that walks across a still street, from left to right, and stays for a while."""

    seconds: float = 6.0
    rate: int = 15
    size: tuple[int, int] = (320, 180)
    rest: tuple[float, float] = (2.0, 3.5)
    """From when to when it stands still, in seconds."""
    sign: str = ""
    colour: tuple[int, int, int] = (30, 40, 210)

    def foot(self, time_s: float) -> tuple[float, float]:
        """Where it stands."""
        width, height = self.size
        begun, ended = self.rest
        walked = min(time_s, begun) + max(time_s - ended, 0)
        share = walked / (self.seconds - (ended - begun))
        return width * (0.1 + 0.8 * share), height * 0.8

    def frames(self) -> Iterator[np.ndarray]:
        """The pictures."""
        width, height = self.size
        rng = np.random.default_rng(7)
        street = cv2.resize(
            rng.integers(90, 140, (9, 16, 3), np.uint8), self.size, interpolation=cv2.INTER_CUBIC
        )
        if self.sign:
            size = height / 300
            cv2.putText(street, self.sign, (width // 10, height // 4), 0, size, (255, 255, 255), 2)
        for number in range(round(self.seconds * self.rate)):
            picture = street.copy()
            x, y = self.foot(number / self.rate)
            high, wide = height * 0.4, width * 0.06
            corner = round(x - wide / 2), round(y - high)
            cv2.rectangle(picture, corner, (round(x + wide / 2), round(y)), self.colour, -1)
            yield picture

    def write(self, path: Path) -> Path:
        """Make the video."""
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=self.rate, options={"crf": "20"})
            stream.width, stream.height = self.size
            stream.pix_fmt = "yuv420p"
            for number, picture in enumerate(self.frames()):
                frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
                frame.pts, frame.time_base = number, Fraction(1, self.rate)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path
