"""The soap film over a silhouette: Poisson's equation with sub-pixel boundary.

For a disc of radius R the solution of Δu = -4, u = 0 on the rim, is R² - r², so the surface
z = ±√u is a sphere; any other silhouette becomes a smooth balloon (Prasad & Fitzgibbon 2006).
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import SuperLU, splu

from worker_vm.pipelines.base import PipelineError
from worker_vm.pipelines.inflate.width import evened

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]

PADDING = 3
"""Empty cells about the silhouette."""
_CELLS_WANTED = 30_000
CELLS_NEEDED = 24
"""Of a silhouette at least."""
_LONG_SIDE_MAX = 420
NEIGHBOURS = ((0, 1), (0, -1), (1, 0), (-1, 0))
_NEAREST_CROSSING = 0.08  # of a cell; a rim any closer to a cell's centre makes a stiff equation


@dataclass(frozen=True)
class Silhouette:
    """The subject on the grid that its shape is computed on; square cells."""

    level: Array
    """(h, w) positive inside, negative outside, 0 on the outline."""
    scale: tuple[float, float]
    """Pixels of the cut-out per cell, along x and y."""

    @property
    def inside(self) -> Bools:
        """Cells whose centre is inside."""
        return np.asarray(self.level > 0.0)

    def from_pixels(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Map points of the cut-out, in pixels, to the grid."""
        return (
            (x + 0.5) / self.scale[0] - 0.5 + PADDING,
            (y + 0.5) / self.scale[1] - 0.5 + PADDING,
        )

    def to_pixels(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Map points of the grid to pixels of the cut-out."""
        return (
            (x - PADDING + 0.5) * self.scale[0] - 0.5,
            (y - PADDING + 0.5) * self.scale[1] - 0.5,
        )


@dataclass(frozen=True)
class Operator:
    """A factorised Laplacian on the cells inside, 0 on the outline."""

    inside: Bools
    factor: SuperLU
    rim: Array
    """(h, w) how much each cell is held by the outline's value"""

    def solve(self, right: Array) -> Array:
        """Solve Δv = right with v = 0 on the outline; both (h, w), 0 outside."""
        result = np.zeros(self.inside.shape)
        result[self.inside] = self.factor.solve(-right[self.inside])
        return result

    def spanned(self, values: Array) -> Array:
        """Solve Δv = 0 with v along the outline as `values` are in the cells there."""
        return self.solve(-self.rim * values)


def silhouette(alpha: NDArray[np.float32]) -> Silhouette:
    """Resample a cut-out so that some 30 000 cells lie inside, and smooth its stairs.

    Raises:
        PipelineError: SUBJECT_TOO_THIN, hardly any cells would.
    """
    solid = int((alpha > 0.5).sum())  # noqa: PLR2004
    longer = max(alpha.shape)
    factor = min(np.sqrt(_CELLS_WANTED / max(solid, 1)), _LONG_SIDE_MAX / longer)
    size = (max(8, round(alpha.shape[1] * factor)), max(8, round(alpha.shape[0] * factor)))
    mode = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    small = cv2.resize(alpha, size, interpolation=mode)
    small = cv2.GaussianBlur(small, (0, 0), 1.0)
    level = np.asarray(small, np.float64) - 0.5
    if int((level > 0).sum()) < CELLS_NEEDED:
        raise PipelineError(
            "SUBJECT_TOO_THIN",
            "The subject is too thin to inflate; send one that is at least a few pixels wide.",
            permanent=True,
        )
    level = np.pad(single(level), PADDING, constant_values=-0.5)
    return Silhouette(level, (alpha.shape[1] / size[0], alpha.shape[0] / size[1]))


def single(level: Array) -> Array:
    """Keep the largest piece, joined by edges only, and no hole that closes at a corner."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(
        (level > 0).astype(np.uint8), connectivity=4
    )
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    level = np.where((level > 0) & (labels != largest), -level, level)
    # Two cells that meet at a corner only would make the surface touch itself in a point.
    for _ in range(8):
        solid = level > 0
        one = solid[:-1, :-1] & solid[1:, 1:] & ~solid[:-1, 1:] & ~solid[1:, :-1]
        two = ~solid[:-1, :-1] & ~solid[1:, 1:] & solid[:-1, 1:] & solid[1:, :-1]
        if not (one.any() or two.any()):
            break
        fill = np.zeros_like(solid)
        fill[:-1, 1:] |= one
        fill[:-1, :-1] |= two
        level = np.where(fill & ~solid, np.maximum(np.abs(level), 0.05), level)
    return level


def laplacian(shape: Silhouette, stiffness: float = 0.0) -> Operator:
    """Factorise the five-point Laplacian with the outline where it crosses the grid's edges.

    The symmetric second-order scheme of Gibou et al. 2002.

    Args:
        shape: the silhouette.
        stiffness: c of Δv - c v, for a film on an elastic bed.
    """
    level, inside = shape.level, shape.inside
    index = np.full(level.shape, -1, dtype=np.int64)
    index[inside] = np.arange(int(inside.sum()))
    held = np.zeros(int(inside.sum()))
    joints = np.full(len(held), stiffness)
    rows, cols = [], []
    for step in NEIGHBOURS:
        beside = np.roll(index, step, axis=(0, 1))[inside]
        other = np.roll(level, step, axis=(0, 1))[inside]
        joined = beside >= 0
        crossing = level[inside] / (level[inside] - np.minimum(other, -1e-9))
        held += np.where(joined, 0.0, 1.0 / np.maximum(crossing, _NEAREST_CROSSING))
        joints += joined
        rows.append(index[inside][joined])
        cols.append(beside[joined])
    row, col = np.concatenate(rows), np.concatenate(cols)
    count = len(held)
    matrix = sparse.coo_matrix((-np.ones(len(row)), (row, col)), shape=(count, count))
    matrix = (matrix + sparse.diags(joints + held)).tocsc()
    options = {"SymmetricMode": True}
    factor = splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options)
    rim = np.zeros(inside.shape)
    rim[inside] = held
    return Operator(inside, factor, rim)


def inflate(shape: Silhouette, operator: Operator) -> Array:
    """Return u in square cells: positive inside, negative outside, 0 on the outline."""
    u = operator.solve(np.where(shape.inside, -4.0, 0.0))
    return _continued(evened(u, shape.inside), shape.level)


def plate(shape: Silhouette, edge: float) -> Array:
    """Return u as `inflate` does, for a flat thing: a round edge so many cells wide, and a plateau.

    The film lies on an elastic bed, Δu - 4u/r² = -4: along the rim it rises as a circle of radius r
    does, and levels out at r² (z = r).
    """
    u = laplacian(shape, 4.0 / edge**2).solve(np.where(shape.inside, -4.0, 0.0))
    return _continued(u, shape.level)


def _continued(u: Array, level: Array) -> Array:
    """Continue u past the outline, so that it crosses 0 where `level` does."""
    inside = level > 0
    total, weight = np.zeros_like(u), np.zeros_like(u)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            near = 1.0 if dx == 0 or dy == 0 else 0.1
            beside = np.roll(inside, (dy, dx), axis=(0, 1))
            total += near * np.where(beside, np.roll(u, (dy, dx), axis=(0, 1)), 0.0)
            weight += near * np.where(beside, np.roll(level, (dy, dx), axis=(0, 1)), 0.0)
    slope = np.where(weight > 0, total / np.maximum(weight, 1e-9), 0.0)
    slope = np.where(weight > 0, slope, float(np.median(slope[weight > 0])))
    return np.asarray(np.where(inside, np.maximum(u, 1e-9), np.minimum(level, -1e-6) * slope))
