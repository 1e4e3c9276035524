"""Open the half solid at its flat cut and mirror it: a balloon closed by construction."""

import manifold3d
import numpy as np

from worker_vm.pipelines.inflate.balloon import Balloon
from worker_vm.pipelines.inflate.heights import Heights
from worker_vm.pipelines.inflate.membrane import Array
from worker_vm.pipelines.inflate.rim import level_normals
from worker_vm.pipelines.inflate.topology import Ints, border, fans, used

LOWEST = 1e-3
"""Cells; every point off the rim is at least this high."""
_PART_STEP = 0.05


def opened(solid: manifold3d.Manifold, heights: Heights) -> Balloon:
    """Take the cut away and add the mirrored half."""
    mesh = largest(solid).to_mesh()
    points = np.asarray(mesh.vert_properties, dtype=np.float64)[:, :3]
    front = _without_cut(mesh)
    rim = np.zeros(len(points), dtype=bool)
    rim[border(front)[:, 0]] = True
    points[:, 2] = np.where(rim, 0.0, np.maximum(points[:, 2], LOWEST))
    points, front = _lift_chords(points, front, heights)
    points, front = _unpinched(points, front)
    points, front = used(points, front)
    return _mirrored(_apart(points, front), front, heights)


def largest(solid: manifold3d.Manifold) -> manifold3d.Manifold:
    """Return the piece with the most faces."""
    pieces = solid.decompose()
    return max(pieces, key=lambda piece: piece.num_tri()) if len(pieces) > 1 else solid


def _without_cut(mesh: manifold3d.Mesh) -> Ints:
    """Return the faces of the surface itself: those of the first run."""
    faces = np.asarray(mesh.tri_verts, dtype=np.int64)
    starts, ids = np.asarray(mesh.run_index), np.asarray(mesh.run_original_id)
    runs = [faces[starts[i] // 3 : starts[i + 1] // 3] for i in np.flatnonzero(ids == ids.min())]
    return np.vstack(runs)


def _lift_chords(points: Array, front: Ints, heights: Heights) -> tuple[Array, Ints]:
    """Split edges that join two points of the rim across the surface.

    Such an edge lies in the cut itself, and mirrored it would be shared by four faces.
    """
    rim = np.zeros(len(points), dtype=bool)
    rim[border(front)[:, 0]] = True
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
    middle[:, 2] = np.maximum(heights.at(middle[:, 0], middle[:, 1], bumps=True), LOWEST)
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


def _unpinched(points: Array, front: Ints) -> tuple[Array, Ints]:
    """Part points of the rim through which it passes twice, each fan of faces getting its own."""
    count = len(points)
    pinched = np.flatnonzero(np.bincount(border(front)[:, 0], minlength=count) > 1)
    extra: list[int] = []
    parted = front.copy()
    for point in pinched:
        rows = np.flatnonzero((front == point).any(axis=1))
        for fan in fans(front[rows], int(point))[1:]:
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


def _mirrored(points: Array, front: Ints, heights: Heights) -> Balloon:
    """Add the back, without bumps, sharing the rim."""
    x, y = points[:, 0], points[:, 1]
    rim = points[:, 2] == 0.0
    front_normals = heights.normals(x, y, bumps=True)
    back_normals = heights.normals(x, y, bumps=False) * (1.0, 1.0, -1.0)
    behind = points * (1.0, 1.0, 0.0)
    behind[:, 2] = -np.maximum(heights.at(x, y, bumps=False), LOWEST)
    number = np.where(rim, np.arange(len(points)), len(points) + np.cumsum(~rim) - 1)
    front_normals = level_normals(front_normals, points, rim, border(front))
    return Balloon(
        points=np.vstack([points, behind[~rim]]),
        normals=np.vstack([front_normals, back_normals[~rim]]),
        front=front[:, ::-1],  # y points down here
        back=number[front],
    )
