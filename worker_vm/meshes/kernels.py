"""Inner loops over pairs of triangles and over texels, compiled by numba."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from worker_vm.rendering.jit import inlined, kernel

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Cells = NDArray[np.int32]
Triangle = tuple[int, int, int]
"""Numbers of three points."""

SUBTEXEL = 256
"""Steps that a texel is divided into."""
_INSIDE = 1e-7
"""How far inside (of 1) two triangles have to meet; touching is no fault."""
_MOST = 255


class Grid(NamedTuple):
    """Which faces reach into which cell of a regular grid."""

    low: Floats
    """(m, 3) the lower corner of a face's box"""
    high: Floats
    """(m, 3) the upper corner"""
    first: Cells
    """(m, 3) the lowest cell that a face's box reaches into"""
    last: Cells
    """(m, 3) the highest"""
    shape: tuple[int, int, int]
    starts: Ints
    """(cells + 1) where the faces of a cell begin in `members`"""
    members: Cells


@kernel
def count_members(
    first: Cells, last: Cells, shape: tuple[int, int, int], counts: Ints, most: int
) -> int:
    """Count each cell's faces into `counts[cell + 1]`; stops early when there are too many."""
    total = 0
    for face in range(len(first)):
        for x in range(first[face, 0], last[face, 0] + 1):
            for y in range(first[face, 1], last[face, 1] + 1):
                for z in range(first[face, 2], last[face, 2] + 1):
                    counts[(x * shape[1] + y) * shape[2] + z + 1] += 1
                    total += 1
        if total > most:
            break
    return total


@kernel
def place_members(grid: Grid, free: Ints) -> None:
    """Fill `grid.members`; `free` begins as a copy of `grid.starts`."""
    for face in range(len(grid.first)):
        for x in range(grid.first[face, 0], grid.last[face, 0] + 1):
            for y in range(grid.first[face, 1], grid.last[face, 1] + 1):
                for z in range(grid.first[face, 2], grid.last[face, 2] + 1):
                    cell = (x * grid.shape[1] + y) * grid.shape[2] + z
                    grid.members[free[cell]] = face
                    free[cell] += 1


@inlined
def _pierces(points: Floats, p: int, q: int, triangle: Triangle) -> bool:
    """Whether the segment from p to q goes through the inside of a triangle.

    Möller, Trumbore (1997): Fast, minimum storage ray-triangle intersection.
    """
    a, b, c = triangle
    dx, dy, dz = (
        points[q, 0] - points[p, 0], points[q, 1] - points[p, 1], points[q, 2] - points[p, 2]
    )  # fmt: skip
    ux, uy, uz = (
        points[b, 0] - points[a, 0], points[b, 1] - points[a, 1], points[b, 2] - points[a, 2]
    )  # fmt: skip
    vx, vy, vz = (
        points[c, 0] - points[a, 0], points[c, 1] - points[a, 1], points[c, 2] - points[a, 2]
    )  # fmt: skip
    nx, ny, nz = dy * vz - dz * vy, dz * vx - dx * vz, dx * vy - dy * vx
    det = ux * nx + uy * ny + uz * nz
    size = (dx * dx + dy * dy + dz * dz) * (ux * ux + uy * uy + uz * uz)
    size *= vx * vx + vy * vy + vz * vz
    if det * det <= 1e-18 * size:
        return False  # parallel, or no triangle
    sx, sy, sz = (
        points[p, 0] - points[a, 0], points[p, 1] - points[a, 1], points[p, 2] - points[a, 2]
    )  # fmt: skip
    u = (sx * nx + sy * ny + sz * nz) / det
    if u <= _INSIDE or u >= 1.0 - _INSIDE:
        return False
    mx, my, mz = sy * uz - sz * uy, sz * ux - sx * uz, sx * uy - sy * ux
    v = (dx * mx + dy * my + dz * mz) / det
    if v <= _INSIDE or u + v >= 1.0 - _INSIDE:
        return False
    t = (vx * mx + vy * my + vz * mz) / det
    return bool(_INSIDE < t < 1.0 - _INSIDE)


@inlined
def _apart(grid: Grid, one: int, other: int) -> bool:
    for axis in range(3):
        if grid.low[one, axis] > grid.high[other, axis]:
            return True
        if grid.low[other, axis] > grid.high[one, axis]:
            return True
    return False


@inlined
def _cross(points: Floats, faces: Ints, one: int, other: int) -> bool:
    """Whether two faces without a common point go through each other."""
    for corner in range(3):
        for other_corner in range(3):
            if faces[one, corner] == faces[other, other_corner]:
                return False
    a, b, c = faces[one, 0], faces[one, 1], faces[one, 2]
    p, q, r = faces[other, 0], faces[other, 1], faces[other, 2]
    return (
        _pierces(points, p, q, (a, b, c))
        or _pierces(points, q, r, (a, b, c))
        or _pierces(points, r, p, (a, b, c))
        or _pierces(points, a, b, (p, q, r))
        or _pierces(points, b, c, (p, q, r))
        or _pierces(points, c, a, (p, q, r))
    )


@inlined
def _crosses_any(points: Floats, faces: Ints, grid: Grid, face: int) -> bool:
    for x in range(grid.first[face, 0], grid.last[face, 0] + 1):
        for y in range(grid.first[face, 1], grid.last[face, 1] + 1):
            for z in range(grid.first[face, 2], grid.last[face, 2] + 1):
                cell = (x * grid.shape[1] + y) * grid.shape[2] + z
                for place in range(grid.starts[cell], grid.starts[cell + 1]):
                    other = grid.members[place]
                    if other == face or _apart(grid, face, other):
                        continue
                    if _cross(points, faces, face, other):
                        return True
    return False


@kernel
def count_crossing(points: Floats, faces: Ints, grid: Grid, tested: Ints) -> int:
    """Count the tested faces that go through another one."""
    found = 0
    for face in tested:
        if _crosses_any(points, faces, grid, face):
            found += 1
    return found


@kernel
def cover(corners: Ints, times: NDArray[np.uint8]) -> None:
    """Count how many triangles cover the middle of each texel.

    Args:
        corners: (m, 3, 2) x and y in subtexels.
        times: (h, w) is added to, up to 255. A texel on the edge of two triangles counts for one.
    """
    rows, cols = times.shape
    half = SUBTEXEL // 2
    for face in range(len(corners)):
        x0, y0 = corners[face, 0, 0], corners[face, 0, 1]
        x1, y1 = corners[face, 1, 0], corners[face, 1, 1]
        x2, y2 = corners[face, 2, 0], corners[face, 2, 1]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if area == 0:
            continue
        if area < 0:
            x1, y1, x2, y2 = x2, y2, x1, y1
        # Of the two triangles at an edge exactly one has the texels whose middle lies on it.
        bias0 = 0 if (y1 == y2 and x2 < x1) or y2 < y1 else -1
        bias1 = 0 if (y2 == y0 and x0 < x2) or y0 < y2 else -1
        bias2 = 0 if (y0 == y1 and x1 < x0) or y1 < y0 else -1
        left = max(0, (min(x0, x1, x2) - half) // SUBTEXEL)
        right = min(cols - 1, (max(x0, x1, x2) - half) // SUBTEXEL + 1)
        top = max(0, (min(y0, y1, y2) - half) // SUBTEXEL)
        bottom = min(rows - 1, (max(y0, y1, y2) - half) // SUBTEXEL + 1)
        for row in range(top, bottom + 1):
            y = row * SUBTEXEL + half
            for col in range(left, right + 1):
                x = col * SUBTEXEL + half
                inside = (
                    (x2 - x1) * (y - y1) - (y2 - y1) * (x - x1) + bias0 >= 0
                    and (x0 - x2) * (y - y2) - (y0 - y2) * (x - x2) + bias1 >= 0
                    and (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) + bias2 >= 0
                )
                if inside and times[row, col] < _MOST:
                    times[row, col] += 1
