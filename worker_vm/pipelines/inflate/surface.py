"""From the membrane to a closed triangle mesh.

One half of the balloon is meshed as a solid with a flat cut through the rim, simplified, opened at
the cut and mirrored (opening.py). So both halves share the rim exactly, and the mesh is closed by
construction.
"""

from collections.abc import Sequence

import cv2
import manifold3d
import numpy as np
from numpy.typing import NDArray
from skimage.measure import marching_cubes

from worker_vm.pipelines.base import PipelineError
from worker_vm.pipelines.inflate.balloon import Balloon
from worker_vm.pipelines.inflate.heights import Heights
from worker_vm.pipelines.inflate.joining import joined
from worker_vm.pipelines.inflate.membrane import Array
from worker_vm.pipelines.inflate.opening import LOWEST, largest, opened
from worker_vm.pipelines.inflate.topology import (
    Ints,
    euler_number,
    euler_of_mask,
    is_one_closed_body,
)

THICKNESS = 0.85
"""Half depth against half width: round things have 1, most others less (docs/quality.md)."""
_TOLERANCE = 0.00045  # of the longer side: what simplification may move, by default
_CELLS_PER_VERTEX = 1.5
_LEAST_COARSE = 1.2
_CLEAR = np.float32(0.03)  # cells²
_DIGITS = 7  # of a position, as a share of the longest side, that files keep apart
_SEARCH_STEPS = 7
_CLOSE_ENOUGH = 0.05


def build(heights: Heights, vertex_count: int, layers: Sequence[Heights] = ()) -> Balloon:
    """Mesh the balloon.

    Args:
        heights: the half surface.
        vertex_count: points wanted, or -1 for as many as a fine tolerance needs.
        layers: what lies in front of it, within the same outline.

    Raises:
        PipelineError: MESH_FAILED, no closed mesh came out.
    """
    wanted = _shares(vertex_count, heights, layers)
    solid, cell = _half_solid(heights, wanted[0])
    if vertex_count < 0:
        first = _TOLERANCE * max(heights.u.shape)
        search = [first, first / 4.0]
    else:
        search = _tolerances(solid, wanted[0], cell)
    for tolerance in (*search, 0.0):
        balloon = opened(solid.simplify(tolerance) if tolerance else solid, heights)
        solids = [_layer_solid(*one, tolerance) for one in zip(layers, wanted[1:], strict=True)]
        balloon = joined(balloon, list(zip(solids, layers, strict=True)))
        if is_closed(balloon, heights):
            return balloon
    raise _mesh_failed()


def _shares(vertex_count: int, heights: Heights, layers: Sequence[Heights]) -> list[int]:
    """Divide the points among the body, which has a back as well, and its layers."""
    if vertex_count < 0:
        return [-1] * (1 + len(layers))
    cells = np.array([2.0, *np.ones(len(layers))])
    cells *= [int((one.u > 0).sum()) for one in (heights, *layers)]
    return [max(12, round(vertex_count * share)) for share in cells / cells.sum()]


def _layer_solid(layer: Heights, vertex_count: int, tolerance: float) -> manifold3d.Manifold:
    """Mesh what lies between a layer's surface and the plane of the body's rim."""
    # Half the points are the mirrored ones of a body, which a layer has not.
    solid, cell = _half_solid(layer, 2 * vertex_count)
    if vertex_count > 0 and tolerance:
        tolerance = _tolerances(solid, 2 * vertex_count, cell)[0]
    return solid.simplify(tolerance) if tolerance else solid


def is_closed(balloon: Balloon, heights: Heights) -> bool:
    """Whether it is one closed body whose holes are the outline's, and nowhere touches itself."""
    faces = balloon.faces
    if not is_one_closed_body(faces) or _touches_itself(balloon.points[np.unique(faces)]):
        return False
    return euler_number(faces) == 2 * euler_of_mask(heights.u > 0.0)


def _touches_itself(points: Array) -> bool:
    """Whether a reader that joins equal positions would join some of these points."""
    places = np.round(points / np.ptp(points, axis=0).max(), _DIGITS)
    return len(np.unique(places, axis=0)) < len(points)


def _half_solid(heights: Heights, vertex_count: int) -> tuple[manifold3d.Manifold, float]:
    """Mesh 0 ≤ z ≤ k √u (marching cubes, Lewiner et al. 2003) with the bumps on top.

    A small mesh begins on a coarse grid: simplifying a fine one that far breaks thin parts.

    Returns:
        The solid in fine cells, and the cells used for it, in fine cells.
    """
    u, cell = _coarsened(heights, vertex_count)
    top = heights.stretch * float(np.sqrt(u.max()))
    z = np.arange(-1, int(np.ceil(top)) + 2, dtype=np.float32)
    volume = (u * heights.stretch**2)[None].astype(np.float32) - (z**2)[:, None, None]
    # A crossing right at a grid point would give several points in one place.
    volume = np.copysign(np.maximum(np.abs(volume), _CLEAR), volume)
    volume[0] = -1e6  # closes the solid just below z = 0
    points, faces, _, _ = marching_cubes(volume, 0.0)  # type: ignore[no-untyped-call]
    points = points[:, ::-1].astype(np.float64)  # to x, y, z
    flat = points[:, 2] <= 1.0 + 1e-3
    points[:, :2] = (points[:, :2] + 0.5) * cell - 0.5 + heights.corner
    height = heights.at(points[:, 0], points[:, 1], bumps=True)
    points[:, 2] = np.where(flat, 0.0, np.maximum(height, LOWEST))
    solid = _manifold(points, faces, flat[faces].all(axis=1))
    if solid.is_empty() or solid.status() != manifold3d.Error.NoError:
        raise _mesh_failed()
    return largest(solid), cell


def _coarsened(heights: Heights, vertex_count: int) -> tuple[Array, float]:
    """Return u on a grid fit for the mesh's size, and its cells in fine cells."""
    u = heights.u
    wanted = _CELLS_PER_VERTEX * vertex_count
    present = int((u > 0).sum())
    if vertex_count < 0 or wanted >= present:
        return u, 1.0
    holes = euler_of_mask(u > 0)
    cell = float(np.sqrt(present / wanted))
    while cell > _LEAST_COARSE:
        size = (max(8, round(u.shape[1] / cell)), max(8, round(u.shape[0] / cell)))
        coarse = cv2.resize(u, size, interpolation=cv2.INTER_AREA)
        coarse = np.pad(coarse, 1, constant_values=float(coarse.min()))
        step = u.shape[1] / size[0]
        if euler_of_mask(coarse > 0) == holes:
            return coarse / step**2, step
        cell *= 0.8  # thin parts or holes were lost
    return u, 1.0


def _manifold(points: Array, faces: Ints, cut: NDArray[np.bool_]) -> manifold3d.Manifold:
    """Make the solid, with the cut's faces as a run of their own that survives simplification."""
    if np.linalg.det(points[faces]).sum() < 0:  # six times the volume
        faces = faces[:, ::-1]
    faces = np.vstack([faces[~cut], faces[cut]])
    first = int(manifold3d.Manifold.reserve_ids(2))
    mesh = manifold3d.Mesh(
        np.ascontiguousarray(points, dtype=np.float32),
        np.ascontiguousarray(faces, dtype=np.uint32),
        run_index=np.array([0, 3 * int((~cut).sum()), 3 * len(faces)], dtype=np.uint32),
        run_original_id=np.array([first, first + 1], dtype=np.uint32),
    )
    return manifold3d.Manifold(mesh)


def _tolerances(solid: manifold3d.Manifold, vertex_count: int, cell: float) -> list[float]:
    """Return tolerances that leave about `vertex_count` points after mirroring, best first."""
    low, high = np.log(1e-4 * cell), np.log(1.5 * cell)
    tried: list[tuple[float, float]] = [(abs(np.log(_count(solid) / vertex_count)), 0.0)]
    tolerance = np.log(0.05 * cell)
    for _ in range(_SEARCH_STEPS):
        count = _count(solid.simplify(float(np.exp(tolerance))))
        error = abs(np.log(count / vertex_count))
        tried.append((error, float(np.exp(tolerance))))
        if error < _CLOSE_ENOUGH:
            break
        low, high = (tolerance, high) if count > vertex_count else (low, tolerance)
        tolerance = (low + high) / 2.0
    return [tolerance for _, tolerance in sorted(tried)]


def _count(solid: manifold3d.Manifold) -> int:
    """Points after mirroring; the cut has hardly any but the rim's."""
    above = np.asarray(solid.to_mesh().vert_properties)[:, 2] > 0
    return 2 * int(above.sum()) + len(above) - int(above.sum())


def _mesh_failed() -> PipelineError:
    return PipelineError(
        "MESH_FAILED",
        "The outline could not be turned into a closed shape; send a simpler or larger subject.",
        permanent=True,
    )
