"""What a run of `video-frames` without a worker tells and leaves behind."""

import io
import json
import uuid
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from inflate_runs import Recorder
from PIL import Image
from video_clips import digest

from worker_vm.pipelines.base import RunInput
from worker_vm.pipelines.registry import load_pipeline

AS_IT_IS = {"format": "png", "autorotate": False, "deinterlace": "off", "previews": []}
"""Frames as they are coded, to be compared bit by bit."""


class Silence(Recorder):
    """A recorder that takes messages without words."""

    def progress(self, percent: float, stage: str, message: str | None = None) -> None:
        """Note a step."""
        super().progress(percent, stage, message or "-")


@dataclass
class FramesOutcome:
    """What a run left behind."""

    recorder: Recorder
    metrics: dict[str, float]

    @property
    def archive(self) -> zipfile.ZipFile:
        """The ZIP."""
        return zipfile.ZipFile(self.recorder.artifacts["frames.zip"][1])

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest inside the ZIP."""
        return json.loads(self.archive.read("manifest.json"))

    @property
    def pictures(self) -> list[np.ndarray]:
        """The frames, decoded."""
        archive = self.archive
        return [_pixels(archive.read(frame["name"])) for frame in self.manifest["frames"]]

    @property
    def md5s(self) -> list[str]:
        """What tells the frames apart."""
        return [digest(picture) for picture in self.pictures]


def _pixels(file: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))


def take_frames(path: Path, work_dir: Path, **parameters: Any) -> FramesOutcome:
    """Run the pipeline on a file."""
    recorder = Silence()
    work_dir.mkdir()
    pipeline = load_pipeline("video-frames")()
    job = RunInput(
        job_id=uuid.uuid4(),
        model_id="video-frames-v1",
        model_version="1.0.0",
        params={"video_path": "uploads/video", **parameters},
        prompt=None,
        inputs={"video_path": path},
        work_dir=work_dir,
    )
    return FramesOutcome(recorder, pipeline.run(job, recorder))
