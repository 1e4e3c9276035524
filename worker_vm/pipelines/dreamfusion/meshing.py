"""From density to a closed triangle mesh."""

from dataclasses import dataclass

import manifold3d
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import marching_cubes

from worker_vm.pipelines.base import PipelineError
from worker_vm.pipelines.dreamfusion.field import Lattice, raw_of

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

SURFACE_DENSITY = 6.0
"""Where the surface is: half of the light is gone after a ninth of the radius."""
_REACH = 2.0
"""Raw values beyond this from the surface's count alike: smoothing then moves it least."""
_SMOOTHING = 0.6  # cells
_CRUMB = 0.03
"""Pieces with less than this share of the largest one's volume are dust."""
_LEAST_VOLUME = 1e-4
"""of the box of side 2; less is no object but noise"""
_CLEAR = np.float32(0.01)
_SEARCH_STEPS = 9
_CLOSE_ENOUGH = 0.08


@dataclass(frozen=True)
class Surface:
    """A closed mesh in the field's coordinates (-1…1)."""

    points: Array
    """(n, 3)"""
    normals: Array
    """(n, 3) unit, pointing out"""
    faces: Ints
    """(m, 3), counter-clockwise seen from outside"""
    bodies: int
    volume: float


def extract(lattice: Lattice, vertex_count: int) -> Surface:
    """Mesh the surface of the density, without dust and inner hollows, and simplify it.

    Args:
        lattice: the object.
        vertex_count: about so many points; fewer if the grid gives fewer.

    Raises:
        PipelineError: DENSITY_NAN, DENSITY_EMPTY or MESH_TOO_THIN, all permanent.
    """
    with torch.no_grad():
        raw = lattice.values[0, 0].float().cpu().numpy()
    if not np.isfinite(raw).all():
        raise nan_density()
    level = raw - raw_of(SURFACE_DENSITY)
    if not (level > 0.0).any():
        raise PipelineError(
            "DENSITY_EMPTY",
            "Nothing solid came out: the object faded away. Use more steps, another seed, a lower "
            "opacity_weight, or a prompt that names one object.",
            permanent=True,
        )
    solid = _solid(_closed(level))
    mesh = _simplified(solid, vertex_count).to_mesh()
    points = np.asarray(mesh.vert_properties, dtype=np.float64)[:, :3]
    faces = np.asarray(mesh.tri_verts, dtype=np.int64)
    return Surface(points, _normals(points, faces), faces, len(solid.decompose()), solid.volume())


def nan_density() -> PipelineError:
    """The optimisation has left the numbers."""
    return PipelineError(
        "DENSITY_NAN",
        "The optimisation diverged: densities are not numbers any more. Use a lower learning_rate "
        "or guidance_scale.",
        permanent=True,
    )


def _closed(level: NDArray[np.float32]) -> NDArray[np.float32]:
    """Fill hollows that no ray can have seen, smooth, and put emptiness around it."""
    level = np.clip(level, -_REACH, _REACH)
    solid = level > 0.0
    level[ndimage.binary_fill_holes(solid) & ~solid] = _REACH
    level = ndimage.gaussian_filter(level, _SMOOTHING)
    # The field ends at the unit ball; beyond it nothing was ever seen.
    steps = np.linspace(-1.0, 1.0, len(level), dtype=np.float32)
    radius = np.sqrt(sum(part**2 for part in np.meshgrid(steps, steps, steps, indexing="ij")))
    level = np.minimum(level, (1.0 - radius) * len(level) / 2.0)
    level = np.pad(level, 1, constant_values=-_REACH)
    # A crossing right at a grid point would give several points in one place.
    return np.asarray(np.copysign(np.maximum(np.abs(level), _CLEAR), level), np.float32)


def _solid(level: NDArray[np.float32]) -> manifold3d.Manifold:
    """Marching cubes (Lewiner et al. 2003) to a solid without crumbs."""
    if not (level > 0.0).any():
        raise _too_thin()
    points, faces, _, _ = marching_cubes(level, 0.0)  # type: ignore[no-untyped-call]
    cells = len(level) - 3  # the padding aside
    points = (points[:, ::-1].astype(np.float64) - 1.0) / cells * 2.0 - 1.0
    if np.linalg.det(points[faces]).sum() < 0:  # six times the volume
        faces = faces[:, ::-1]
    solid = manifold3d.Manifold(
        manifold3d.Mesh(
            np.ascontiguousarray(points, dtype=np.float32),
            np.ascontiguousarray(faces, dtype=np.uint32),
        )
    )
    if solid.is_empty() or solid.status() != manifold3d.Error.NoError:
        raise _too_thin()
    pieces = solid.decompose()
    largest = max(piece.volume() for piece in pieces)
    if largest < _LEAST_VOLUME * 8.0:
        raise _too_thin()
    kept = [piece for piece in pieces if piece.volume() >= _CRUMB * largest]
    return kept[0] if len(kept) == 1 else manifold3d.Manifold.compose(kept)


def _simplified(solid: manifold3d.Manifold, vertex_count: int) -> manifold3d.Manifold:
    """Collapse edges until about `vertex_count` points are left, keeping the solid closed."""
    best = solid
    low, high = 0.0, 0.1
    for _ in range(_SEARCH_STEPS):
        if abs(best.num_vert() - vertex_count) <= _CLOSE_ENOUGH * vertex_count:
            break
        tolerance = (low + high) / 2.0 if low else high / 16.0
        candidate = solid.simplify(tolerance)
        if candidate.is_empty() or candidate.num_vert() < vertex_count:
            high = tolerance
        else:
            low, best = tolerance, candidate
        if solid.num_vert() <= vertex_count:
            break
    return best


def _normals(points: Array, faces: Ints) -> Array:
    """Normals of points: those of the faces around them, by area."""
    a, b, c = (points[faces[:, i]] for i in range(3))
    flat = np.cross(b - a, c - a)
    total = np.zeros_like(points)
    for corner in range(3):
        np.add.at(total, faces[:, corner], flat)
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return np.asarray(np.where(length > 0.0, total / np.maximum(length, 1e-30), (0.0, 1.0, 0.0)))


def _too_thin() -> PipelineError:
    return PipelineError(
        "MESH_TOO_THIN",
        "What came out is too thin or too small to be closed into a solid. Use more steps, a "
        "higher grid_resolution, or a prompt that names one solid object.",
        permanent=True,
    )
