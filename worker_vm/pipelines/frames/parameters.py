"""The parameters of `video-frames`, checked once more on the worker's side."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from worker_vm.pipelines.checked_parameters import checked_parameters
from worker_vm.video.sampling import FINEST


class Parameters(BaseModel):
    """What a job may ask for; the catalog's JSON Schema says the same."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    video_path: str
    fps: float = Field(default=1, ge=0, le=30)
    sample: Literal["at_time", "ffmpeg_near", "keyframes"] = "at_time"
    format: Literal["jpg", "png", "webp"] = "jpg"
    quality: int = Field(default=92, ge=1, le=100)
    max_width: int | None = Field(default=None, ge=16, le=8192)
    start_s: float = Field(default=0, ge=0, le=86400)
    end_s: float | None = Field(default=None, gt=0, le=86400)
    max_frames: int | None = Field(default=None, ge=1, le=100_000)
    autorotate: bool = True
    tonemap: bool = True
    deinterlace: Literal["auto", "off"] = "auto"
    on_damage: Literal["fail", "partial"] = "fail"
    previews: frozenset[Literal["poster", "sprite", "webp"]] = frozenset(
        {"poster", "sprite", "webp"}
    )

    @model_validator(mode="after")
    def _check(self) -> "Parameters":
        if self.end_s is not None and self.end_s <= self.start_s:
            raise ValueError("end_s must be later than start_s")
        if 0 < self.fps < 1 / FINEST:
            raise ValueError(f"fps is 0 (every frame) or at least 1/{FINEST}")
        return self


def read_parameters(given: Mapping[str, Any]) -> Parameters:
    """Check a job's parameters.

    Raises:
        PipelineError: INVALID_PARAMETERS, permanent.
    """
    return checked_parameters(Parameters, given)
