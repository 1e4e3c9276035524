"""The parameters of `sf3d`, checked once more on the worker's side."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from worker_vm.meshes.formats import ONLY_GLB, Formats
from worker_vm.pipelines.checked_parameters import checked_parameters


class Parameters(BaseModel):
    """What a job may ask for; the catalog's JSON Schema says the same."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    image_path: str
    texture_resolution: Literal[512, 1024, 2048] = 1024
    foreground_ratio: float = Field(default=0.85, ge=0.1, le=1.0)
    remesh: Literal["none", "triangle", "quad"] = "none"
    vertex_count: int = Field(default=-1, ge=-1, le=20000)
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    formats: Formats = ONLY_GLB


def read_parameters(given: Mapping[str, Any]) -> Parameters:
    """Check a job's parameters.

    Raises:
        PipelineError: INVALID_PARAMETERS, permanent.
    """
    return checked_parameters(Parameters, given)
