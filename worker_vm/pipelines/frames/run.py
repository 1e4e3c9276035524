"""One run of `video-frames`: a confined child decodes, this side writes what it tells."""

import json
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from contract.kinds import ArtifactKind
from worker_vm.pipelines.base import ArtifactStream, PipelineError, Reporter, RunInput
from worker_vm.pipelines.frames.archive import FramesArchive
from worker_vm.pipelines.frames.parameters import read_parameters
from worker_vm.pipelines.frames.request import Request
from worker_vm.video.child import decode_confined
from worker_vm.video.input import Video
from worker_vm.video.problems import PASSING, VideoCode, VideoError
from worker_vm.video.records import Record, RecordError
from worker_vm.video.sampling import exact
from worker_vm.video.settings import read_settings

_PREVIEWS = {
    "poster": ("poster.jpg", "image/jpeg", b"\xff\xd8\xff"),
    "sprite": ("sprite.jpg", "image/jpeg", b"\xff\xd8\xff"),
    "webp": ("preview.webp", "image/webp", b"RIFF"),
}
_LIBRARIES = ("av", "numpy", "pillow")
_DECODER = "worker_vm.pipelines.frames.decoder"
_MOST_RESTARTS = 2
"""Decoded selectively, then all of it, then what is left."""
_LARGEST_PREVIEW = 8 << 20
_MOST_BYTES_A_PIXEL = 4
"""Of a file that shows noise, at the best quality."""


class Run:
    """The stages read, frames and pack, in that order.

    Args:
        job: the attempt.
        report: to the outside.
        pipeline_version: for the manifest.
    """

    def __init__(self, job: RunInput, report: Reporter, pipeline_version: str) -> None:
        self._job = job
        self._report = report
        self._version = pipeline_version
        self._parameters = read_parameters(job.params)
        self._settings = read_settings()
        allowed = self._settings.max_frames
        self._most_frames = min(allowed, self._parameters.max_frames or allowed)
        self._restarts = 0
        self._folder = job.work_dir / "output"
        self._source: dict[str, Any] = {}
        self._done: dict[str, Any] | None = None
        self._shown: set[str] = set()
        self._told = (1.0, "read", "Reading the video")
        self._first_frame_seconds: float | None = None
        self._peak_bytes = 0

    def execute(self) -> dict[str, float]:
        """Run all stages and return the metrics.

        Raises:
            PipelineError: see docs/video-frames.md.
        """
        self._started = time.monotonic()
        self._folder.mkdir(exist_ok=True)
        try:
            self._video = Video.of(self._job, "video_path")
            request = self._request(self._video.media_type())
            archive = FramesArchive(
                self._begin_archive, self._parameters.format, self._settings.max_output_bytes
            )
            try:
                self._decode(request, archive)
                self._tell(96, "pack", "Writing the archive")
                manifest = self._manifest(archive)
                archive.finish(manifest)
            finally:
                archive.close()
        except VideoError as error:
            raise PipelineError(
                error.code, error.message, permanent=error.code not in PASSING
            ) from error
        beside = self._folder / "manifest.json"
        beside.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        self._report.artifact(ArtifactKind.MANIFEST, beside, "application/json")
        self._tell(100, "pack", "Done")
        return {
            "frame_count": float(len(archive.frames)),
            "zip_size_bytes": float(archive.size_bytes),
            "processing_time_seconds": time.monotonic() - self._started,
            "first_frame_seconds": self._first_frame_seconds or 0.0,
            "decoder_peak_memory_bytes": float(self._peak_bytes),
        }

    def _begin_archive(self) -> ArtifactStream:
        return self._report.stream(ArtifactKind.FRAMES_ZIP, "frames.zip", "application/zip")

    def _request(self, media_type: str) -> Request:
        wanted, limits = self._parameters, self._settings
        return Request(
            media_type=media_type,
            size_bytes=self._video.size_bytes,
            sample=wanted.sample,
            fps=str(exact(wanted.fps)),
            start=str(exact(wanted.start_s)),
            end=None if wanted.end_s is None else str(exact(wanted.end_s)),
            max_frames=wanted.max_frames,
            frame_limit=limits.max_frames,
            duplicate_limit=limits.max_copies,
            max_pixels=limits.max_pixels,
            max_seconds=limits.max_seconds,
            format=wanted.format,
            quality=wanted.quality,
            max_width=wanted.max_width,
            autorotate=wanted.autorotate,
            tonemap=wanted.tonemap,
            deinterlace=wanted.deinterlace == "auto",
            partial=wanted.on_damage == "partial",
            previews=sorted(wanted.previews),
        )

    def _decode(self, request: Request, archive: FramesArchive) -> None:
        """Have the child decode, and take in what it tells.

        Raises:
            VideoError: the child's reason, or that it broke down.
        """
        self._tell(*self._told)
        self._peak_bytes = decode_confined(
            self._video,
            _DECODER,
            json.dumps(asdict(request)),
            memory_bytes=self._settings.memory_bytes,
            work_seconds=self._settings.work_seconds,
            largest_body=self._settings.max_pixels * _MOST_BYTES_A_PIXEL + _LARGEST_PREVIEW,
            take=lambda record: self._take(record, archive),
            idle=lambda: self._tell(*self._told),
        )

    def _take(self, record: Record, archive: FramesArchive) -> None:
        if record.type == "frame":
            self._take_frame(record, archive)
        elif record.type == "restart":
            self._restarts += 1
            if self._restarts > _MOST_RESTARTS:
                raise RecordError(f"more than {_MOST_RESTARTS} restarts")
            archive.start_over()
            self._tell(self._told[0], "frames", "Decoding everything, since parts are damaged")
        elif record.type == "preview":
            self._show(record)
        elif record.type == "source":
            self._source = record.facts
        elif record.type == "done":
            if not archive.frames:
                raise RecordError("it made no frame")
            self._done = record.facts
        else:
            raise RecordError(f"an unknown record {record.type[:40]!r}")

    def _take_frame(self, record: Record, archive: FramesArchive) -> None:
        if len(archive.frames) >= self._most_frames:
            raise RecordError(f"more than {self._most_frames} frames")
        try:
            archive.add(record.body, record.moment("target"), record.moment("pts"))
        except ValueError as error:
            raise RecordError(str(error)) from error
        if self._first_frame_seconds is None:
            self._first_frame_seconds = time.monotonic() - self._started
        share = min(max(record.number("share"), 0), 1)
        self._tell(3 + 92 * share, "frames", f"{len(archive.frames)} frames")

    def _show(self, record: Record) -> None:
        """Hand over a preview; of each there is one."""
        kind = record.text("name")
        if kind not in self._parameters.previews or kind in self._shown:
            return
        name, media_type, magic = _PREVIEWS[kind]
        if not record.body.startswith(magic):
            raise RecordError(f"the preview {kind} is no picture")
        path = self._write_file(name, record.body)
        self._shown.add(kind)
        self._report.artifact(ArtifactKind.PREVIEW, path, media_type)

    def _write_file(self, name: str, body: bytes) -> Path:
        path = self._folder / name
        try:
            path.write_bytes(body)
        except OSError as error:
            raise VideoError(
                VideoCode.OUTPUT_WRITE_ERROR, f"{name} could not be written: {error.strerror}."
            ) from error
        return path

    def _tell(self, percent: float, stage: str, message: str) -> None:
        self._told = (max(percent, self._told[0]), stage, message)
        self._report.progress(*self._told)

    def _manifest(self, archive: FramesArchive) -> dict[str, Any]:
        done = self._done or {}
        distinct = sum("duplicate_of" not in frame for frame in archive.frames)
        return {
            "model": self._job.model_id,
            "model_version": self._job.model_version,
            "pipeline": "video-frames",
            "pipeline_version": self._version,
            "parameters": {
                **self._parameters.model_dump(mode="json"),
                "previews": sorted(self._parameters.previews),
            },
            "source": {
                **self._source,
                "bytes": self._video.size_bytes,
                **_dict(done.get("seen")),
            },
            "decoding": done.get("how"),
            "damage": done.get("damage") or None,
            "frame_count": len(archive.frames),
            "distinct_frames": distinct,
            "frames": archive.frames,
            "libraries": {name: version(name) for name in _LIBRARIES},
        }


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
