"""Objects with known shape, in painted parts: what they are made of, and their meshes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.measure import marching_cubes

from bench.truth.solids import Array, Solid

_CELL = 0.0085
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Part:
    """A solid in one colour, or striped in two."""

    solid: Solid
    colour: Colour
    stripe: Colour | None = None
    along: tuple[float, float, float] = (0.0, 14.0, 0.0)
    """Stripes per unit along each axis."""
    limb: bool = False
    """It lies in front of what is behind it, as a limb on a body."""


@dataclass(frozen=True)
class Truth:
    """An object's surface."""

    points: Array
    """(n, 3)"""
    normals: Array
    """(n, 3) unit"""
    faces: NDArray[np.int64]
    """(m, 3)"""
    part: NDArray[np.int64]
    """(m,) which part a face belongs to"""
    paint: tuple[Part, ...]

    def colours(self, faces: NDArray[np.integer], weights: Array) -> Array:
        """Return the base colours, sRGB 0…255, of faces (n,) at barycentric weights (n, 3)."""
        at = np.einsum("nk,nkd->nd", weights, self.points[self.faces[faces]])
        result = np.zeros(at.shape)
        for number, part in enumerate(self.paint):
            mine = self.part[faces] == number
            odd = (at[mine] @ np.array(part.along)) % 1.0 >= 0.5
            result[mine] = np.where(odd[:, None], part.stripe or part.colour, part.colour)
        return result


def mesh(parts: Sequence[Part]) -> Truth:
    """Mesh an object: marching cubes, points moved onto the surface, normals by gradient."""

    def distance(p: Array) -> Array:
        return np.asarray(np.min([part.solid(p) for part in parts], axis=0))

    axes = [np.arange(-0.62, 0.62, _CELL) for _ in range(3)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    volume = np.concatenate([distance(plane.reshape(-1, 3)) for plane in grid]).reshape(
        grid.shape[:3]
    )
    points, faces, _, _ = marching_cubes(volume, 0.0)
    points = points.astype(np.float64) * _CELL - 0.62
    for _ in range(2):
        normals = _gradient(distance, points)
        points -= np.clip(distance(points), -_CELL, _CELL)[:, None] * normals
    normals = _gradient(distance, points)
    corners = points[faces]
    if np.einsum("ij,ij->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) < 0:
        faces = faces[:, ::-1]
    centres = points[faces].mean(axis=1)
    part = np.argmin([one.solid(centres) for one in parts], axis=0)
    return Truth(points, normals, faces.astype(np.int64), part, tuple(parts))


def _gradient(distance: Solid, points: Array, step: float = 1e-4) -> Array:
    slope = np.stack(
        [distance(points + d) - distance(points - d) for d in np.eye(3) * step], axis=1
    )
    return np.asarray(slope / np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), 1e-12))
