"""The parameters of `video-analytics`, checked once more on the worker's side."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from worker_vm.pipelines.checked_parameters import checked_parameters
from worker_vm.video.sampling import FINEST

ClassName = Annotated[str, Field(min_length=1, max_length=80)]


class Parameters(BaseModel):
    """What a job may ask for; the catalog's JSON Schema says the same."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    video_path: str
    fps: float = Field(default=0, ge=0, le=60)
    start_s: float = Field(default=0, ge=0, le=86400)
    end_s: float | None = Field(default=None, gt=0, le=86400)
    max_frames: int | None = Field(default=None, ge=1, le=1_000_000)
    max_width: int = Field(default=1280, ge=160, le=3840)
    detector: Literal["motion", "onnx"] = "motion"
    tracker: Literal["bytetrack", "sort", "ocsort"] = "bytetrack"
    confidence: float | None = Field(default=None, gt=0, le=1)
    classes: list[ClassName] | None = Field(default=None, min_length=1, max_length=100)
    zones: list[Any] | str | None = None
    zones_json: list[Any] | str | None = None
    dwell_s: float = Field(default=10, gt=0, le=86400)
    ocr: bool = True
    ocr_interval: int = Field(default=20, ge=1, le=100_000)
    clustering_interval: int = Field(default=5, ge=1, le=100_000)
    mock_mode: bool = False
    seed: int = Field(default=0, ge=0, le=2**32 - 1)
    telemetry: frozenset[Literal["jsonl", "csv", "parquet"]] = frozenset({"jsonl", "csv"})
    previews: frozenset[Literal["poster", "sprite", "webp"]] = frozenset(
        {"poster", "sprite", "webp"}
    )
    on_damage: Literal["fail", "partial"] = "fail"

    @model_validator(mode="after")
    def _check(self) -> "Parameters":
        if self.end_s is not None and self.end_s <= self.start_s:
            raise ValueError("end_s must be later than start_s")
        if 0 < self.fps < 1 / FINEST:
            raise ValueError(f"fps is 0 (every frame) or at least 1/{FINEST}")
        if self.zones is not None and self.zones_json is not None:
            raise ValueError("zones and zones_json are the same: give one of them")
        return self

    @property
    def wanted_zones(self) -> list[Any] | str:
        """Zones as they were given, under whichever name."""
        given = self.zones if self.zones is not None else self.zones_json
        return [] if given is None else given


def read_parameters(given: Mapping[str, Any]) -> Parameters:
    """Check a job's parameters.

    Raises:
        PipelineError: INVALID_PARAMETERS, permanent.
    """
    return checked_parameters(Parameters, given)
