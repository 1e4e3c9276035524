"""The parameters of `inflate`, checked once more on the worker's side."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from worker_vm.cutout.hints import Hints
from worker_vm.meshes.formats import ONLY_GLB, Formats
from worker_vm.pipelines.checked_parameters import checked_parameters
from worker_vm.pipelines.inflate.flatness import Profile
from worker_vm.pipelines.inflate.symmetry import Symmetry

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Outline = Annotated[tuple[tuple[Fraction, Fraction], ...], Field(min_length=3, max_length=64)]
Points = Annotated[tuple[tuple[Fraction, Fraction], ...], Field(max_length=16)]

_LEAST_AREA = 2e-4  # of the picture: a layer smaller than that can't be seen


class Parameters(BaseModel):
    """What a job may ask for; the catalog's JSON Schema says the same."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    image_path: str
    texture_resolution: Literal[512, 1024, 2048] = 1024
    foreground_ratio: float = Field(default=0.85, ge=0.1, le=1.0)
    vertex_count: int = Field(default=-1, ge=-1, le=20000)
    thickness: float = Field(default=1.0, ge=0.1, le=2.0)
    profile: Profile = "auto"
    relief: Fraction = 0.3
    symmetry: Symmetry = "none"
    back: Literal["auto", "mirror", "plain"] = "auto"
    flat_base: float = Field(default=0.0, ge=0.0, le=0.2)
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    formats: Formats = ONLY_GLB
    box: tuple[Fraction, Fraction, Fraction, Fraction] | None = None
    points: Points = ()
    background_points: Points = ()
    layers: Annotated[tuple[Outline, ...], Field(max_length=8)] = ()

    @property
    def hints(self) -> Hints:
        """Where the subject is."""
        return Hints(self.box, self.points, self.background_points)

    @model_validator(mode="after")
    def _check(self) -> "Parameters":
        if self.vertex_count != -1 and self.vertex_count < 100:  # noqa: PLR2004
            raise ValueError("vertex_count is -1 (automatic) or 100 to 20000")
        self._check_hints()
        for number, outline in enumerate(self.layers):
            if _area(outline) < _LEAST_AREA:
                raise ValueError(
                    f"layers.{number} encloses hardly anything; give the corners of its outline in "
                    "order, as x and y in fractions of the picture"
                )
        return self

    def _check_hints(self) -> None:
        if self.box is not None:
            x0, y0, x1, y1 = self.box
            if x1 - x0 < 0.01 or y1 - y0 < 0.01:  # noqa: PLR2004
                raise ValueError("box is [x0, y0, x1, y1] with x0 < x1 and y0 < y1")
            if any(not (x0 <= x <= x1 and y0 <= y <= y1) for x, y in self.points):
                raise ValueError("points lie on the subject, so inside the box")
        if any(
            max(abs(a[0] - b[0]), abs(a[1] - b[1])) < 0.03  # noqa: PLR2004
            for a in self.points
            for b in self.background_points
        ):
            raise ValueError("a point can't be on the subject and on the background")


def _area(outline: Outline) -> float:
    """Area of a polygon, in pictures."""
    beside = (*outline[1:], outline[0])
    total = sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(outline, beside, strict=True))
    return abs(total) / 2.0


def read_parameters(given: Mapping[str, Any]) -> Parameters:
    """Check a job's parameters.

    Raises:
        PipelineError: INVALID_PARAMETERS, permanent.
    """
    return checked_parameters(Parameters, given)
