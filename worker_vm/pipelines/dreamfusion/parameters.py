"""The parameters of `dreamfusion`, checked once more on the worker's side."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from worker_vm.meshes.formats import ONLY_GLB, Formats
from worker_vm.pipelines.checked_parameters import checked_parameters
from worker_vm.pipelines.dreamfusion.guidance import TimestepRange


class Parameters(BaseModel):
    """What a job may ask for; the catalog's JSON Schema says the same."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    negative_prompt: str = Field(default="", max_length=2000)
    truncate: bool = False
    view_prompts: bool = True
    guidance_scale: float = Field(default=100.0, ge=1.0, le=200.0)
    steps: int = Field(default=5000, ge=100, le=20000)
    views_per_step: int = Field(default=1, ge=1, le=4)
    resolution: Literal[64, 96, 128, 256] = 64
    grid_resolution: Literal[64, 96, 128, 160] = 128
    learning_rate: float = Field(default=0.05, ge=0.001, le=0.5)
    lit_share: float = Field(default=0.5, ge=0.0, le=1.0)
    orientation_weight: float = Field(default=10.0, ge=0.0, le=10000.0)
    opacity_weight: float = Field(default=1.0, ge=0.0, le=1000.0)
    min_timestep: float = Field(default=0.02, ge=0.0, le=1.0)
    max_timestep: float = Field(default=0.98, ge=0.0, le=1.0)
    last_max_timestep: float = Field(default=0.5, ge=0.0, le=1.0)
    vertex_count: int = Field(default=20000, ge=500, le=50000)
    texture_resolution: Literal[512, 1024, 2048] = 1024
    checkpoint_every: int = Field(default=1000, ge=0, le=20000)
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    formats: Formats = ONLY_GLB

    @model_validator(mode="after")
    def _check(self) -> "Parameters":
        if not self.min_timestep <= self.last_max_timestep <= self.max_timestep:
            raise ValueError("min_timestep <= last_max_timestep <= max_timestep must hold")
        return self

    @property
    def timesteps(self) -> TimestepRange:
        """Which of the diffusion's timesteps are used."""
        return TimestepRange(self.min_timestep, self.max_timestep, self.last_max_timestep)

    @property
    def samples(self) -> int:
        """Samples on each ray: one for about one and a half cells of the grid."""
        return self.grid_resolution * 3 // 4


def read_parameters(given: Mapping[str, Any]) -> Parameters:
    """Check a job's parameters.

    Raises:
        PipelineError: INVALID_PARAMETERS, permanent.
    """
    return checked_parameters(Parameters, given)


def smaller(given: Mapping[str, Any]) -> dict[str, Any] | None:
    """Parameters that need less memory; None if there are none."""
    parameters = read_parameters(given)
    less = {
        "views_per_step": 1,
        "resolution": 64,
        "grid_resolution": 64 if parameters.grid_resolution < 128 else 96,  # noqa: PLR2004
    }
    less = {name: min(value, getattr(parameters, name)) for name, value in less.items()}
    if all(getattr(parameters, name) == value for name, value in less.items()):
        return None
    return {**given, **less}
