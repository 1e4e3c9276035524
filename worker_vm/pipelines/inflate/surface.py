"""From the membrane to a closed triangle mesh.

One half of the balloon is meshed as a solid with a flat cut through the rim, simplified, opened at
the cut and mirrored. So both halves share the rim exactly, and the mesh is closed by construction.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import manifold3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse.csgraph import connected_components
from skimage.measure import marching_cubes

from worker_vm.pipelines.base import PipelineError
from worker_vm.pipelines.inflate.membrane import Array
from worker_vm.pipelines.inflate.rim import level_normals

Ints = NDArray[np.int64]

THICKNESS = 0.62
"""Half depth against that of a sphere; what looks right (measured by eye)."""
_TOLERANCE = 0.00045  # of the longer side: what simplification may move, by default
_CELLS_PER_VERTEX = 1.5
_LEAST_COARSE = 1.2
_LOWEST = 1e-3  # cells; every point off the rim is at least this high
_CLEAR = np.float32(0.03)  # cells²
_PART_STEP = 0.05
_SEARCH_STEPS = 7
_CLOSE_ENOUGH = 0.05


@dataclass(frozen=True)
class Balloon:
    """The closed surface in grid cells: x right, y down the picture, z towards the viewer."""

    points: Array
    """(n, 3)"""
    normals: Array
    """(n, 3), unit, pointing out."""
    front: Ints
    """(m, 3) faces seen from +z, counter-clockwise when y points up."""
    back: Ints
    """(k, 3) faces seen from -z, likewise."""


@dataclass(frozen=True)
class Heights:
    """The half surface z = k √u + h over the grid."""

    u: Array
    stretch: float
    """k"""
    bumps: Array
    """h in cells, 0 at the rim"""

    def at(self, x: Array, y: Array, *, bumps: bool) -> Array:
        """Return z at points of the plane (cells)."""
        base = self.stretch * np.sqrt(np.maximum(self._sample(self.u, x, y), 0.0))
        if not bumps:
            return base
        # Never so deep as to reach the other half.
        return np.asarray(base + np.maximum(self._sample(self.bumps, x, y), -0.3 * base))

    def normals(self, x: Array, y: Array, *, bumps: bool) -> Array:
        """Return unit normals (n, 3) of the front, up to the rim, where z is steep."""
        slope_x, slope_y = self.slopes
        root = np.sqrt(np.maximum(self._sample(self.u, x, y), 0.0))
        across, down = self._sample(slope_x, x, y), self._sample(slope_y, x, y)
        normal = np.stack([-self.stretch * across, -self.stretch * down, 2.0 * root], axis=1)
        if bumps:
            bump_x, bump_y = _gradient(self.bumps)
            normal[:, 0] -= 2.0 * root * self._sample(bump_x, x, y)
            normal[:, 1] -= 2.0 * root * self._sample(bump_y, x, y)
        length = np.linalg.norm(normal, axis=1, keepdims=True)
        flat = length < 1e-9  # noqa: PLR2004
        return np.asarray(np.where(flat, (0.0, 0.0, 1.0), normal / np.maximum(length, 1e-9)))

    @cached_property
    def slopes(self) -> tuple[Array, Array]:
        """The gradient of u, smooth up to and past the outline, where u itself has a kink."""
        inside = self.u > 0.0
        deep = ndimage.binary_erosion(inside)
        # Cells beside the outline count only where there are no better ones near.
        trust = np.where(deep, 1.0, np.where(inside, 0.03, 0.0))
        total = cv2.GaussianBlur(trust, (0, 0), 1.3) + 1e-12
        near = cv2.GaussianBlur(np.where(inside, 1.0, 0.0), (0, 0), 1.3) > 1e-3  # noqa: PLR2004
        smooth = [
            np.where(near, cv2.GaussianBlur(part * trust, (0, 0), 1.3) / total, part)
            for part in _gradient(self.u)
        ]
        return smooth[0], smooth[1]

    @staticmethod
    def _sample(grid: Any, x: Any, y: Any) -> Array:
        return np.asarray(ndimage.map_coordinates(grid, (y, x), order=1, mode="nearest"))


def _gradient(grid: Array) -> tuple[Array, Array]:
    """Return the change along x and along y, per cell."""
    down, across = np.gradient(grid)
    return np.asarray(across), np.asarray(down)


def build(heights: Heights, vertex_count: int) -> Balloon:
    """Mesh the balloon.

    Args:
        heights: the half surface.
        vertex_count: points wanted, or -1 for as many as a fine tolerance needs.

    Raises:
        PipelineError: MESH_FAILED, no closed mesh came out.
    """
    solid, cell = _half_solid(heights, vertex_count)
    if vertex_count < 0:
        first = _TOLERANCE * max(heights.u.shape)
        search = [first, first / 4.0]
    else:
        search = _tolerances(solid, vertex_count, cell)
    for tolerance in (*search, 0.0):
        balloon = _opened(solid.simplify(tolerance) if tolerance else solid, heights)
        if is_closed(balloon, heights):
            return balloon
    raise _mesh_failed()


def euler_number(faces: Ints) -> int:
    """Return vertices - edges + faces: 2 for a ball, 0 for a ring."""
    edges = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    return len(np.unique(faces)) - len(np.unique(edges, axis=0)) + len(faces)


def is_closed(balloon: Balloon, heights: Heights) -> bool:
    """Whether each edge has two faces in opposite directions and the holes are the outline's."""
    faces = np.vstack([balloon.front, balloon.back])
    if not len(faces):
        return False
    count = int(faces.max()) + 1
    edges = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    there = np.sort(edges[:, 0] * count + edges[:, 1])
    back = np.sort(edges[:, 1] * count + edges[:, 0])
    if (np.diff(there) == 0).any() or not np.array_equal(there, back):
        return False
    if euler_number(faces) != 2 * _euler_of_mask(heights.u > 0.0):
        return False
    link = sparse.coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), (count, count))
    pieces, _ = connected_components(link, directed=False)
    return bool(pieces == 1)


def _euler_of_mask(mask: NDArray[np.bool_]) -> int:
    """Pieces minus holes, for cells joined by edges (Gray 1971)."""
    cells = np.pad(mask, 1).astype(np.int64)
    corners = cells[:-1, :-1] & cells[1:, :-1] & cells[:-1, 1:] & cells[1:, 1:]
    edges = (cells[:-1] & cells[1:]).sum() + (cells[:, :-1] & cells[:, 1:]).sum()
    return int(cells.sum() - edges + corners.sum())


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
    points[:, :2] = (points[:, :2] + 0.5) * cell - 0.5
    height = heights.at(points[:, 0], points[:, 1], bumps=True)
    points[:, 2] = np.where(flat, 0.0, np.maximum(height, _LOWEST))
    solid = _manifold(points, faces, flat[faces].all(axis=1))
    if solid.is_empty() or solid.status() != manifold3d.Error.NoError:
        raise _mesh_failed()
    return _largest(solid), cell


def _coarsened(heights: Heights, vertex_count: int) -> tuple[Array, float]:
    """Return u on a grid fit for the mesh's size, and its cells in fine cells."""
    u = heights.u
    wanted = _CELLS_PER_VERTEX * vertex_count
    present = int((u > 0).sum())
    if vertex_count < 0 or wanted >= present:
        return u, 1.0
    holes = _euler_of_mask(u > 0)
    cell = float(np.sqrt(present / wanted))
    while cell > _LEAST_COARSE:
        size = (max(8, round(u.shape[1] / cell)), max(8, round(u.shape[0] / cell)))
        coarse = cv2.resize(u, size, interpolation=cv2.INTER_AREA)
        coarse = np.pad(coarse, 1, constant_values=float(coarse.min()))
        step = u.shape[1] / size[0]
        if _euler_of_mask(coarse > 0) == holes:
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


def _largest(solid: manifold3d.Manifold) -> manifold3d.Manifold:
    pieces = solid.decompose()
    return max(pieces, key=lambda piece: piece.num_tri()) if len(pieces) > 1 else solid


def _without_cut(mesh: manifold3d.Mesh) -> Ints:
    """Return the faces of the surface itself: those of the first run."""
    faces = np.asarray(mesh.tri_verts, dtype=np.int64)
    starts, ids = np.asarray(mesh.run_index), np.asarray(mesh.run_original_id)
    runs = [faces[starts[i] // 3 : starts[i + 1] // 3] for i in np.flatnonzero(ids == ids.min())]
    return np.vstack(runs)


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


def _opened(solid: manifold3d.Manifold, heights: Heights) -> Balloon:
    """Take the cut away and add the mirrored half."""
    mesh = _largest(solid).to_mesh()
    points = np.asarray(mesh.vert_properties, dtype=np.float64)[:, :3]
    front = _without_cut(mesh)
    rim = np.zeros(len(points), dtype=bool)
    rim[_border(front)[:, 0]] = True
    points[:, 2] = np.where(rim, 0.0, np.maximum(points[:, 2], _LOWEST))
    points, front = _lift_chords(points, front, heights)
    points, front = _unpinched(points, front)
    points, front = _used(points, front)
    return _mirrored(_apart(points, front), front, heights)


def _lift_chords(points: Array, front: Ints, heights: Heights) -> tuple[Array, Ints]:
    """Split edges that join two points of the rim across the surface.

    Such an edge lies in the cut itself, and mirrored it would be shared by four faces.
    """
    rim = np.zeros(len(points), dtype=bool)
    rim[_border(front)[:, 0]] = True
    edges: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for face in np.flatnonzero(rim[front].sum(axis=1) >= 2):  # noqa: PLR2004
        for corner in range(3):
            a, b = int(front[face, corner]), int(front[face, (corner + 1) % 3])
            if rim[a] and rim[b]:
                edges.setdefault((min(a, b), max(a, b)), []).append((int(face), corner))
    split = {edge: uses for edge, uses in edges.items() if len(uses) == 2}  # noqa: PLR2004
    if not split:
        return points, front
    pairs = np.array(list(split))
    middle = points[pairs].mean(axis=1)
    middle[:, 2] = np.maximum(heights.at(middle[:, 0], middle[:, 1], bumps=True), _LOWEST)
    number = {edge: len(points) + i for i, edge in enumerate(split)}
    touched: dict[int, dict[int, int]] = {}
    for edge, uses in split.items():
        for owner, corner in uses:
            touched.setdefault(owner, {})[corner] = number[edge]
    extra = [
        triangle
        for face, inserted in touched.items()
        for triangle in _split_face(front[face].tolist(), inserted)
    ]
    kept = np.delete(front, list(touched), axis=0)
    return np.vstack([points, middle]), np.vstack([kept, np.array(extra, dtype=np.int64)])


def _split_face(face: list[int], inserted: dict[int, int]) -> list[list[int]]:
    """Triangulate a face with new points on some of its edges (edge i runs from corner i)."""
    ring: list[int] = []
    for corner in range(3):
        ring.append(face[corner])
        if corner in inserted:
            ring.append(inserted[corner])
    # Start at a new point: a fan from it has no flat triangle.
    start = ring.index(next(iter(inserted.values())))
    ring = ring[start:] + ring[:start]
    return [[ring[0], ring[i], ring[i + 1]] for i in range(1, len(ring) - 1)]


def _border(faces: Ints) -> Ints:
    """Return the directed edges (n, 2) that only one face has."""
    edges = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    count = int(faces.max()) + 1
    there, back = edges[:, 0] * count + edges[:, 1], edges[:, 1] * count + edges[:, 0]
    return np.asarray(edges[~np.isin(there, back)])


def _unpinched(points: Array, front: Ints) -> tuple[Array, Ints]:
    """Part points of the rim through which it passes twice, each fan of faces getting its own."""
    count = len(points)
    pinched = np.flatnonzero(np.bincount(_border(front)[:, 0], minlength=count) > 1)
    extra: list[int] = []
    parted = front.copy()
    for point in pinched:
        rows = np.flatnonzero((front == point).any(axis=1))
        for fan in _fans(front[rows], int(point))[1:]:
            block = parted[rows[fan]]
            block[block == point] = count + len(extra)
            parted[rows[fan]] = block
            extra.append(int(point))
    return np.vstack([points, points[extra]]), parted


def _apart(points: Array, front: Ints) -> Array:
    """Move points in the same place a little towards their own faces.

    Where the surface only touches itself they are several points, which a reader that joins equal
    positions would make one.
    """
    _, place, times = np.unique(
        points.astype(np.float32), axis=0, return_inverse=True, return_counts=True
    )
    moved = points.copy()
    for point in np.flatnonzero(times[place.ravel()] > 1):
        own = front[(front == point).any(axis=1)]
        if len(own):
            centre = points[own].mean(axis=(0, 1))
            moved[point, :2] += _PART_STEP * (centre - points[point])[:2]
    return moved


def _fans(faces: Ints, point: int) -> list[list[int]]:
    """Group the faces about a point into those joined by edges."""
    groups: list[tuple[set[int], list[int]]] = []
    for number, face in enumerate(faces.tolist()):
        near = set(face) - {point}
        members = [number]
        apart = []
        for others, rows in groups:
            if others & near:
                near |= others
                members += rows
            else:
                apart.append((others, rows))
        groups = [*apart, (near, members)]
    return [rows for _, rows in groups]


def _used(points: Array, faces: Ints) -> tuple[Array, Ints]:
    """Drop points that no face uses."""
    keep, inverse = np.unique(faces, return_inverse=True)
    return points[keep], inverse.reshape(faces.shape).astype(np.int64)


def _mirrored(points: Array, front: Ints, heights: Heights) -> Balloon:
    """Add the back, without bumps, sharing the rim."""
    x, y = points[:, 0], points[:, 1]
    rim = points[:, 2] == 0.0
    front_normals = heights.normals(x, y, bumps=True)
    back_normals = heights.normals(x, y, bumps=False) * (1.0, 1.0, -1.0)
    behind = points * (1.0, 1.0, 0.0)
    behind[:, 2] = -np.maximum(heights.at(x, y, bumps=False), _LOWEST)
    number = np.where(rim, np.arange(len(points)), len(points) + np.cumsum(~rim) - 1)
    front_normals = level_normals(front_normals, points, rim, _border(front))
    return Balloon(
        points=np.vstack([points, behind[~rim]]),
        normals=np.vstack([front_normals, back_normals[~rim]]),
        front=front[:, ::-1],  # y points down here
        back=number[front],
    )


def _mesh_failed() -> PipelineError:
    return PipelineError(
        "MESH_FAILED",
        "The outline could not be turned into a closed shape; send a simpler or larger subject.",
        permanent=True,
    )
