"""What a surface is as a body: closed, of one piece, the right way out."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph

from worker_vm.meshes.contents import Floats, Ints

_MOST_PLACED = 32
"""Inside-out bodies for which is found out whether they are hollows of others."""
_BLOCK = 1 << 18
_PAIR = 2


@dataclass(frozen=True)
class Topology:
    """A surface whose points in the same place are one, as at the seams of a texture."""

    points: Floats
    """(n, 3)"""
    faces: Ints
    """(m, 3), without those that have no three different points"""
    degenerate_faces: int
    """left out of `faces`"""
    open_edges: int
    """that have one face only"""
    crowded_edges: int
    """that have more than two"""
    turned_edges: int
    """whose two faces disagree about which side is out"""
    bodies: int
    inverted_bodies: int
    """closed ones that are inside out, and no hollow of another one"""
    volume: float
    """cubic metres; means something only of a closed surface"""

    @property
    def watertight(self) -> bool:
        """Whether each edge has exactly two faces."""
        return len(self.faces) > 0 and self.open_edges == 0 and self.crowded_edges == 0


def analyse(positions: Floats, faces: Ints) -> Topology:
    """Join points in the same place and look at the surface that is left."""
    # Adding zero makes -0 and 0 the same.
    points, place = np.unique(positions + 0.0, axis=0, return_inverse=True)
    welded = place.reshape(-1)[faces]
    a, b, c = welded.T
    proper = (a != b) & (b != c) & (c != a)
    welded = welded[proper]
    first, opened, crowded, turned = _edges(welded, len(points))
    body = _bodies(welded, len(points))
    count = int(body.max()) + 1 if len(body) else 0
    volumes = np.bincount(body, _volumes(points, welded), minlength=count).astype(np.float64)
    closed = np.bincount(body[first[opened | crowded] // 3], minlength=count) == 0
    return Topology(
        points=points,
        faces=welded,
        degenerate_faces=int(np.count_nonzero(~proper)),
        open_edges=int(np.count_nonzero(opened)),
        crowded_edges=int(np.count_nonzero(crowded)),
        turned_edges=int(np.count_nonzero(turned)),
        bodies=count,
        inverted_bodies=_inverted(points, welded, body, volumes, closed),
        volume=float(volumes.sum()),
    )


def _edges(
    faces: Ints, count: int
) -> tuple[Ints, NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Of each edge: a corner (face * 3 + 0…2) it runs from, whether open, crowded, or turned."""
    start, end = faces.reshape(-1), faces[:, [1, 2, 0]].reshape(-1)
    key = np.minimum(start, end) * count + np.maximum(start, end)
    order = np.argsort(key, kind="stable")
    ordered = key[order]
    begin = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]][: len(ordered)])
    uses = np.diff(np.r_[begin, len(ordered)])
    forward = np.where(start < end, 1, -1)[order]
    balance = np.add.reduceat(forward, begin) if len(begin) else np.zeros(0)
    return order[begin], uses == 1, uses > _PAIR, (uses == _PAIR) & (balance != 0)


def _bodies(faces: Ints, count: int) -> Ints:
    """The number of the body that each face belongs to."""
    if not len(faces):
        return np.zeros(0, np.int64)
    ends = faces[:, [0, 1, 1, 2]].reshape(-1, 2)
    graph = sparse.coo_matrix((np.ones(len(ends), bool), (ends[:, 0], ends[:, 1])), (count, count))
    _, label = csgraph.connected_components(graph, directed=False)
    return np.unique(label[faces[:, 0]], return_inverse=True)[1].astype(np.int64)


def _volumes(points: Floats, faces: Ints) -> Floats:
    """Of each face: the signed volume between it and the middle of all points."""
    a, b, c = (points[faces[:, corner]] - points.mean(axis=0) for corner in range(3))
    return np.asarray(np.einsum("ij,ij->i", a, np.cross(b, c)) / 6.0)


def _inverted(
    points: Floats, faces: Ints, body: Ints, volumes: Floats, closed: NDArray[np.bool_]
) -> int:
    """How many closed bodies are inside out without being a hollow of another one."""
    suspects = np.flatnonzero(closed & (volumes < 0))
    shells = faces[np.isin(body, np.flatnonzero(closed & (volumes > 0)))]
    hollows = 0
    for suspect in suspects[:_MOST_PLACED]:
        corner = points[faces[np.argmax(body == suspect), 0]]
        hollows += _winding_number(points, shells, corner) > 0.5  # noqa: PLR2004
    return len(suspects) - int(hollows)


def _winding_number(points: Floats, faces: Ints, place: Floats) -> float:
    """How often surfaces enclose a place.

    Van Oosterom, Strackee (1983): The solid angle of a plane triangle.
    """
    angle = 0.0
    for begin in range(0, len(faces), _BLOCK):
        a, b, c = (points[faces[begin : begin + _BLOCK, corner]] - place for corner in range(3))
        la, lb, lc = (np.linalg.norm(side, axis=1) for side in (a, b, c))
        over = np.einsum("ij,ij->i", a, np.cross(b, c))
        under = (
            la * lb * lc
            + np.einsum("ij,ij->i", a, b) * lc
            + np.einsum("ij,ij->i", b, c) * la
            + np.einsum("ij,ij->i", c, a) * lb
        )
        angle += float(2.0 * np.arctan2(over, under).sum())
    return angle / (4.0 * np.pi)
