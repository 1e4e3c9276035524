"""The files of a run, from its first frame on."""

import json
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contract.kinds import ArtifactKind
from worker_vm.analytics.boxes import Frame
from worker_vm.analytics.drawing import Painter, Scene
from worker_vm.analytics.heat_map import HeatMap
from worker_vm.analytics.telemetry import MEDIA_TYPES, Moment, Writer, open_writer
from worker_vm.analytics.video_writer import VideoWriter
from worker_vm.pipelines.analytics.annotated import AnnotatedVideo, Effort
from worker_vm.pipelines.analytics.parameters import Parameters
from worker_vm.pipelines.analytics.toolbox import threads
from worker_vm.pipelines.analytics.writing import writing
from worker_vm.video.problems import VideoCode, VideoError

_PREVIEWS = {
    "poster": ("poster.jpg", "image/jpeg"),
    "sprite": ("sprite.jpg", "image/jpeg"),
    "webp": ("preview.webp", "image/webp"),
}
_CHECK_EVERY = 64
"""Frames after which the size of the files is looked at."""


@dataclass(frozen=True)
class Artifact:
    """A file that is finished."""

    kind: ArtifactKind
    path: Path
    media_type: str


class Results:
    """Writes telemetry and the annotated video, and in the end the rest.

    Args:
        folder: where to.
        wanted: the job's parameters.
        painter: draws frames.
        size: width and height of frames.
        rate: frames a second, about.
        preset: of x264.
        most_bytes: of all files together.

    Raises:
        VideoError: OUTPUT_WRITE_ERROR.
    """

    def __init__(
        self,
        folder: Path,
        wanted: Parameters,
        painter: Painter,
        *,
        size: tuple[int, int],
        rate: float,
        preset: str,
        most_bytes: int,
    ) -> None:
        self._folder = folder
        self._is_mock = wanted.mock_mode
        self._most_bytes = most_bytes
        self._files: list[Artifact] = []
        self._telemetry: list[Writer] = []
        self._frames = 0
        with ExitStack() as opened, writing("the telemetry and the annotated video"):
            for kind in (kind for kind in MEDIA_TYPES if kind in wanted.telemetry):
                path = self._file(ArtifactKind.TELEMETRY, f"telemetry.{kind}", MEDIA_TYPES[kind])
                self._telemetry.append(open_writer(kind, path, is_mock=self._is_mock))
                opened.callback(self._telemetry[-1].close)
            writer = VideoWriter(
                self._file(ArtifactKind.VIDEO, "annotated.mp4", "video/mp4"),
                *size,
                rate=rate,
                preset=preset,
                threads=threads(),
                comment="mock: true" if self._is_mock else "",
            )
            self._video = opened.enter_context(AnnotatedVideo(painter, writer, wanted.previews))
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Give up what is not finished."""
        with suppress(OSError):  # it need not be written to its end
            self._opened.close()

    @property
    def effort(self) -> Effort:
        """What the annotated video has cost."""
        return self._video.effort

    def add(self, frame: Frame, moment: Moment, scene: Scene) -> None:
        """Add a frame.

        Raises:
            VideoError: OUTPUT_LIMIT or OUTPUT_WRITE_ERROR.
        """
        self.note(moment)
        self._video.add(frame, scene)
        self._frames += 1
        if self._frames % _CHECK_EVERY == 0:
            self._check_size()

    def note(self, moment: Moment) -> None:
        """Add to the telemetry alone.

        Raises:
            VideoError: OUTPUT_WRITE_ERROR.
        """
        with writing("the telemetry"):
            for writer in self._telemetry:
                writer.write(moment)

    def finish(self, analytics: Mapping[str, Any], heat: HeatMap) -> list[Artifact]:
        """Write the end of everything; the files that are finished.

        Args:
            analytics: for `analytics.json`.
            heat: for the heat map.

        Raises:
            VideoError: OUTPUT_LIMIT or OUTPUT_WRITE_ERROR.
        """
        self._video.finish()
        with writing("the results"):
            for writer in self._telemetry:
                writer.close()
            for kind, body in self._video.previews():
                name, media_type = _PREVIEWS[kind]
                self._file(ArtifactKind.PREVIEW, name, media_type).write_bytes(body)
            path = self._file(ArtifactKind.PREVIEW, "heat_map.png", "image/png")
            heat.write(path, is_mock=self._is_mock)
            path = self._file(ArtifactKind.ANALYTICS, "analytics.json", "application/json")
            path.write_text(json.dumps(analytics, indent=1) + "\n", encoding="utf-8")
        self._check_size()
        return self._files

    def _file(self, kind: ArtifactKind, name: str, media_type: str) -> Path:
        artifact = Artifact(kind, self._folder / name, media_type)
        self._files.append(artifact)
        return artifact.path

    def _check_size(self) -> None:
        used = sum(file.stat().st_size for file in self._folder.iterdir())
        if used > self._most_bytes:
            raise VideoError(
                VideoCode.OUTPUT_LIMIT,
                f"The results are more than {self._most_bytes >> 20} MiB. Lower fps or max_width,"
                " or ask for a part with start_s and end_s.",
            )
