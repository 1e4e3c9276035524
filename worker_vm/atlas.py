"""Unfold a closed mesh into a texture: flat charts along the axes, none over another.

Faces are grouped by the axis that they look along most, kept together where neighbours agree, and
seen along it. Where a group folds over itself, what lies behind becomes a chart of its own, and so
on until nothing is hidden (depth peeling, Everitt 2001).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from worker_vm.atlas_kernels import EMPTY, draw

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

GUTTER = 3
"""Texels around each chart."""
_AGREEMENT = 0.25
"""How much a neighbour's axis counts, against the cosine to one's own."""
_STEEPEST = 0.35
"""Least cosine between a face and the axis that it is seen along."""
_SMOOTHING_ROUNDS = 4
_PEELINGS = 24
_SEARCH_STEPS = 18
_AXES = np.vstack([np.eye(3), -np.eye(3)])
# What lies right and up of each axis, so that charts are not mirrored.
_RIGHT = np.roll(_AXES, 1, axis=1)
_UP = np.cross(_AXES, _RIGHT)


@dataclass(frozen=True)
class Unfolded:
    """A mesh with a place in the texture for each corner."""

    origins: Ints
    """(n,) which point of the mesh each vertex is: points at charts' rims are several"""
    uvs: Array
    """(n, 2) in 0…1, v downwards"""
    faces: Ints
    """(m, 3) of vertices"""
    charts: int

    def texels(self, side: int) -> tuple[NDArray[np.int32], Array]:
        """The face seen by each texel (side, side), or -1, and the corners in texels (n, 2)."""
        places = self.uvs * side
        face_at, _ = _drawn(np.column_stack([places, np.zeros(len(places))]), self.faces, side)
        return face_at, places


def unfold(points: Array, faces: Ints, side: int) -> Unfolded:
    """Lay a mesh out for a texture of `side` texels.

    Args:
        points: (n, 3)
        faces: (m, 3), closed or not
        side: of the texture, in texels.
    """
    directions = _directions(points, faces)
    layers = np.zeros(len(faces), dtype=np.int64)
    scale = side / np.ptp(points, axis=0).max() / 3.0
    for _ in range(_PEELINGS):
        charts = _connected(faces, directions * (_PEELINGS + 1) + layers)
        hidden = _hidden(points, faces, directions, charts, scale)
        if not hidden.any():
            break
        layers[hidden] += 1
    else:
        # What is still in the way gets a chart for each face.
        charts = np.where(hidden, charts.max() + 1 + np.arange(len(faces)), charts)
        charts = np.unique(charts, return_inverse=True)[1]
    return _packed(points, faces, directions, charts, side)


def _directions(points: Array, faces: Ints) -> Ints:
    """The axis that each face is seen along, (m,) of the six."""
    a, b, c = (points[faces[:, i]] for i in range(3))
    normals = np.cross(b - a, c - a)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    cosines = normals @ _AXES.T
    neighbours = _neighbours(faces)
    directions = cosines.argmax(axis=1)
    for _ in range(_SMOOTHING_ROUNDS):
        around = neighbours @ np.eye(len(_AXES))[directions]
        score = np.where(cosines >= _STEEPEST, cosines + _AGREEMENT * around, cosines - 9.0)
        directions = score.argmax(axis=1)
    return np.asarray(directions, dtype=np.int64)


def _neighbours(faces: Ints) -> Any:
    """Which faces share an edge, a sparse matrix (m, m)."""
    edges = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    _, edge = np.unique(edges, axis=0, return_inverse=True)
    owner = np.repeat(np.arange(len(faces)), 3)
    member = sparse.csr_matrix(
        (np.ones(len(owner)), (owner, edge.ravel())), (len(faces), int(edge.max()) + 1)
    )
    shared = (member @ member.T).tolil()
    shared.setdiag(0.0)
    return shared.tocsr()


def _connected(faces: Ints, labels: Ints) -> Ints:
    """Number the groups of faces that share a label and hang together by edges."""
    link = _neighbours(faces).tocoo()
    same = labels[link.row] == labels[link.col]
    graph = sparse.coo_matrix(
        (np.ones(int(same.sum())), (link.row[same], link.col[same])), link.shape
    )
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def _flat(points: Array, faces: Ints, directions: Ints) -> Array:
    """Each face's corners (m, 3, 3) seen along its axis: right, down and towards the eye."""
    corners = points[faces]
    return np.stack(
        [
            np.einsum("fci,fi->fc", corners, _RIGHT[directions]),
            -np.einsum("fci,fi->fc", corners, _UP[directions]),
            np.einsum("fci,fi->fc", corners, _AXES[directions]),
        ],
        axis=2,
    )


def _hidden(points: Array, faces: Ints, directions: Ints, charts: Ints, scale: float) -> Any:
    """Which faces (m,) lie behind another of their chart, looked at with `scale` texels a unit."""
    flat = _flat(points, faces, directions)
    hidden = np.zeros(len(faces), dtype=bool)
    order = np.argsort(charts, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(charts[order])) + 1):
        seen = flat[members] * (scale, scale, 1.0)
        seen[..., :2] -= seen[..., :2].min(axis=(0, 1)) - 1.0
        side = int(seen[..., :2].max()) + 2
        triangles = np.arange(3 * len(members)).reshape(-1, 3)
        hidden[members] = _drawn(seen.reshape(-1, 3), triangles, side)[1]
    return hidden


def _drawn(points: Array, faces: Ints, side: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """The nearest face of each texel, and which faces are hidden in one."""
    face_at = np.full((side, side), EMPTY, dtype=np.int32)
    hidden = np.zeros(len(faces), dtype=np.bool_)
    depth_at = np.full((side, side), -np.inf, dtype=np.float64)
    draw(np.ascontiguousarray(points), np.ascontiguousarray(faces), face_at, depth_at, hidden)
    return face_at, hidden


def _packed(points: Array, faces: Ints, directions: Ints, charts: Ints, side: int) -> Unfolded:
    """Put the charts into the texture, as large as they fit."""
    flat = _flat(points, faces, directions)[..., :2]
    count = int(charts.max()) + 1
    low, high = np.full((count, 2), np.inf), np.full((count, 2), -np.inf)
    np.minimum.at(low, charts, flat.min(axis=1))
    np.maximum.at(high, charts, flat.max(axis=1))
    extents = high - low
    least, most = 0.0, side / float(extents.max())
    places = np.zeros((count, 2))
    for _ in range(_SEARCH_STEPS):
        scale = (least + most) / 2.0
        found = _shelves(np.ceil(extents * scale) + 2 * GUTTER, side)
        if found is None:
            most = scale
        else:
            least, places = scale, found
    corners = (flat - low[charts][:, None]) * least + places[charts][:, None] + GUTTER
    keys = charts[:, None] * len(points) + faces
    _, first, renamed = np.unique(keys, return_index=True, return_inverse=True)
    return Unfolded(
        origins=faces.ravel()[first],
        uvs=corners.reshape(-1, 2)[first] / side,
        faces=renamed.reshape(faces.shape).astype(np.int64),
        charts=count,
    )


def _shelves(boxes: Array, side: int) -> Array | None:
    """Place boxes (k, 2) row by row, the tallest first; None if they do not fit."""
    places = np.zeros_like(boxes)
    x = y = row = 0.0
    for box in np.argsort(-boxes[:, 1], kind="stable"):
        width, height = boxes[box]
        if x + width > side:
            x, y, row = 0.0, y + row, 0.0
        row = max(row, height)
        if width > side or y + height > side:
            return None
        places[box] = x, y
        x += width
    return places
