"""Which faces meet where: borders, holes, pieces."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from worker_vm.pipelines.inflate.membrane import Array

Ints = NDArray[np.int64]


def euler_number(faces: Ints) -> int:
    """Return vertices - edges + faces: 2 for a ball, 0 for a ring."""
    edges = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    keys = edges[:, 0] * (int(edges.max()) + 1) + edges[:, 1]
    return len(np.unique(faces)) - len(np.unique(keys)) + len(faces)


def is_one_closed_body(faces: Ints) -> bool:
    """Whether each edge has two faces in opposite directions, and all faces hang together."""
    if not len(faces):
        return False
    count = int(faces.max()) + 1
    edges = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    there = np.sort(edges[:, 0] * count + edges[:, 1])
    back = np.sort(edges[:, 1] * count + edges[:, 0])
    if (np.diff(there) == 0).any() or not np.array_equal(there, back):
        return False
    used, renamed = np.unique(edges, return_inverse=True)
    pairs = renamed.reshape(edges.shape)
    link = sparse.coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), (len(used),) * 2)
    pieces, _ = connected_components(link, directed=False)
    return bool(pieces == 1)


def euler_of_mask(mask: NDArray[np.bool_]) -> int:
    """Pieces minus holes, for cells joined by edges (Gray 1971)."""
    cells = np.pad(mask, 1).astype(np.int64)
    corners = cells[:-1, :-1] & cells[1:, :-1] & cells[:-1, 1:] & cells[1:, 1:]
    edges = (cells[:-1] & cells[1:]).sum() + (cells[:, :-1] & cells[:, 1:]).sum()
    return int(cells.sum() - edges + corners.sum())


def border(faces: Ints) -> Ints:
    """Return the directed edges (n, 2) that only one face has."""
    edges = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    count = int(faces.max()) + 1
    there, back = edges[:, 0] * count + edges[:, 1], edges[:, 1] * count + edges[:, 0]
    return np.asarray(edges[~np.isin(there, back)])


def fans(faces: Ints, point: int) -> list[list[int]]:
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


def used(points: Array, faces: Ints) -> tuple[Array, Ints]:
    """Drop points that no face uses."""
    keep, inverse = np.unique(faces, return_inverse=True)
    return points[keep], inverse.reshape(faces.shape).astype(np.int64)
