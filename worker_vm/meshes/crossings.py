"""Does a surface go through itself?"""

from dataclasses import dataclass

import numpy as np

from worker_vm.meshes.contents import Floats, Ints
from worker_vm.meshes.kernels import Cells, Grid, count_crossing, count_members, place_members

MOST_TESTED = 50_000
"""Triangles that are held against all others; of more, so many evenly chosen ones are."""
_MOST_CELLS = 128
"""along an axis"""
_MEMBERS_PER_FACE = 32


@dataclass(frozen=True)
class Crossings:
    """How many triangles go through another one that has no point in common with them.

    Triangles that touch, and neighbours that fold over each other, don't count.
    """

    tested: int
    found: int


def find_crossings(points: Floats, faces: Ints, most: int = MOST_TESTED) -> Crossings:
    """Look for triangles that go through each other.

    Args:
        points: (n, 3), no two in the same place.
        faces: (m, 3)
        most: how many triangles to test at most.
    """
    if not len(faces):
        return Crossings(0, 0)
    corners = points[faces]
    grid = _sort(corners.min(axis=1), corners.max(axis=1))
    count = min(len(faces), most)
    tested = np.arange(count) * len(faces) // count
    return Crossings(count, int(count_crossing(points, faces, grid, tested)))


def _sort(low: Floats, high: Floats) -> Grid:
    """A grid with cells about twice as large as the triangles, coarser where these vary much."""
    origin = low.min(axis=0)
    extents = high.max(axis=0) - origin
    side = max(
        2.0 * float((high - low).max(axis=1).mean()), float(extents.max()) / _MOST_CELLS, 1e-12
    )
    most = _MEMBERS_PER_FACE * len(low) + 1000
    while True:
        wide, tall, deep = (int(extent // side) + 1 for extent in extents)
        shape = (wide, tall, deep)
        first, last = _cells(low - origin, side, shape), _cells(high - origin, side, shape)
        counts = np.zeros(shape[0] * shape[1] * shape[2] + 1, np.int64)
        total = count_members(first, last, shape, counts, most)
        if total <= most:
            break
        side *= 2.0
    starts = np.cumsum(counts)
    grid = Grid(low, high, first, last, shape, starts, np.empty(total, np.int32))
    place_members(grid, starts.copy())
    return grid


def _cells(places: Floats, side: float, shape: tuple[int, ...]) -> Cells:
    return np.asarray(np.minimum(places // side, np.array(shape) - 1), dtype=np.int32)
