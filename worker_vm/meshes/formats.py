"""The formats that a 3D result is written in."""

from enum import StrEnum
from importlib.util import find_spec
from typing import Annotated

from pydantic import AfterValidator, Field

from worker_vm.pipelines.base import PipelineError


class Format(StrEnum):
    """A format, as parameters name it."""

    GLB = "glb"
    OBJ = "obj"
    STL = "stl"
    PLY = "ply"
    USDZ = "usdz"


MEDIA_TYPES = {
    Format.GLB: "model/gltf-binary",
    Format.OBJ: "application/zip",
    Format.STL: "model/stl",
    Format.PLY: "model/ply",
    Format.USDZ: "model/vnd.usdz+zip",
}
_LIBRARIES = {Format.USDZ: ("pxr", "usd-core")}


def _no_doubles(formats: tuple[Format, ...]) -> tuple[Format, ...]:
    if len(set(formats)) < len(formats):
        raise ValueError("a format stands there twice")
    return formats


def _writable(formats: tuple[Format, ...]) -> tuple[Format, ...]:
    for wanted in formats:
        module, package = _LIBRARIES.get(wanted, ("json", ""))
        if find_spec(module) is None:
            raise PipelineError(
                "FORMAT_UNAVAILABLE",
                f"This worker cannot write {wanted}: the Python package '{package}' is not "
                f"installed there. Leave {wanted} out, or ask the operator.",
                permanent=True,
            )
    return formats


Formats = Annotated[
    tuple[Format, ...],
    Field(min_length=1, max_length=len(Format)),
    AfterValidator(_no_doubles),
    AfterValidator(_writable),
]
"""The parameter `formats`. One that this worker can't write is a `PipelineError`
(FORMAT_UNAVAILABLE) when the parameters are read, so before any work is done."""

ONLY_GLB = (Format.GLB,)
