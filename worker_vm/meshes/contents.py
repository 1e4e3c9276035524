"""What a GLB holds, as arrays in the world's axes (+Y up, front +Z)."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class BrokenGlbError(Exception):
    """A file is no GLB that every reader would show.

    Args:
        problem: what is wrong, as the end of a sentence that begins with the file's name.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


@dataclass(frozen=True)
class Texture:
    """A picture in the file; it has been decoded once, so it can be."""

    data: bytes
    media_type: str
    width: int
    height: int


@dataclass(frozen=True)
class Surface:
    """A material; textures are numbers in `Contents.textures`."""

    base_color: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    """linear"""
    metallic: float = 1.0
    roughness: float = 1.0
    base_color_texture: int | None = None
    metallic_roughness_texture: int | None = None
    normal_texture: int | None = None
    double_sided: bool = False


@dataclass(frozen=True)
class Part:
    """Triangles with one material."""

    positions: Floats
    """(n, 3) metres"""
    faces: Ints
    """(m, 3), counter-clockwise seen from outside"""
    normals: Floats | None
    """(n, 3), unit"""
    uvs: Floats | None
    """(n, 2), v downwards"""
    surface: Surface


@dataclass(frozen=True)
class Contents:
    """All of a file that is shown."""

    parts: tuple[Part, ...]
    textures: tuple[Texture, ...]

    @cached_property
    def positions(self) -> Floats:
        """The points of all parts (n, 3)."""
        return np.vstack([part.positions for part in self.parts])

    @cached_property
    def faces(self) -> Ints:
        """The triangles of all parts (m, 3)."""
        starts = np.cumsum([0, *(len(part.positions) for part in self.parts)])
        return np.vstack(
            [part.faces + start for part, start in zip(self.parts, starts[:-1], strict=True)]
        )
