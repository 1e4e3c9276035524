"""What a run of `video-frames` without a worker tells and leaves behind."""

import io
import json
import uuid
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from inflate_runs import Recorder
from PIL import Image
from video_clips import digest

from contract.kinds import ArtifactKind
from tests.support.range_storage import RangeStorage
from worker_vm.backoff import RetryPolicy, sleep
from worker_vm.http_client import make_client
from worker_vm.pipelines.base import RangedInput, RunInput
from worker_vm.pipelines.registry import load_pipeline
from worker_vm.range_server import RangedInputs
from worker_vm.range_source import RangeSource

AS_IT_IS = {"format": "png", "autorotate": False, "deinterlace": "off", "previews": []}
"""Frames as they are coded, to be compared bit by bit."""


class FileStream:
    """An `ArtifactStream` into a file."""

    def __init__(self, path: Path, finished: Callable[[], None]) -> None:
        self._path = path
        self._finished = finished
        self._file = path.open("wb")

    def write(self, data: bytes | memoryview) -> int:
        """Add to it."""
        return self._file.write(data)

    def finish(self) -> None:
        """It is complete."""
        self._file.close()
        self._finished()

    def drop(self) -> None:
        """Forget it, unless it is complete."""
        if not self._file.closed:
            self._file.close()
            self._path.unlink()


class Silence(Recorder):
    """A recorder that takes messages without words, and streamed files.

    Args:
        folder: for these.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def stream(self, kind: ArtifactKind, name: str, media_type: str) -> FileStream:
        """Note a file once it is complete."""
        path = self._folder / name
        return FileStream(path, lambda: self.artifact(kind, path, media_type))

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
    return _take_frames(work_dir, parameters, inputs={"video_path": path})


def take_frames_by_ranges(
    storage: RangeStorage, work_dir: Path, **parameters: Any
) -> FramesOutcome:
    """Run the pipeline on an object that is never downloaded."""
    with make_client() as client, RangedInputs() as ranged:
        source = RangeSource(
            client,
            storage.item,
            policy=RetryPolicy(first_wait=0.01, longest_wait=0.05, give_up_after=5),
            pause=sleep,
        )
        assert ranged.serve(source)
        (connection,) = ranged.connections
        given = {"video_path": RangedInput(connection, source.item.size_bytes)}
        return _take_frames(work_dir, parameters, inputs={}, ranged=given)


def _take_frames(work_dir: Path, parameters: dict[str, Any], **given: Any) -> FramesOutcome:
    work_dir.mkdir()
    recorder = Silence(work_dir)
    pipeline = load_pipeline("video-frames")()
    job = RunInput(
        job_id=uuid.uuid4(),
        model_id="video-frames-v1",
        model_version="1.0.0",
        params={"video_path": "uploads/video", **parameters},
        prompt=None,
        work_dir=work_dir,
        **given,
    )
    return FramesOutcome(recorder, pipeline.run(job, recorder))
