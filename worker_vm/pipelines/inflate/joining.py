"""Put layers on a balloon: the union of solids, each with normals of its own."""

from collections.abc import Sequence
from dataclasses import replace

import manifold3d
import numpy as np
from scipy.spatial import cKDTree

from worker_vm.pipelines.inflate.balloon import Balloon, from_manifold, to_manifold
from worker_vm.pipelines.inflate.heights import Heights
from worker_vm.pipelines.inflate.opening import largest

_INSET = 0.5
"""Cells: as far from the rim a layer ends; a coarse mesh's rim is not quite the outline."""
_FINEST = 0.02
"""Cells: what the crease may be moved to spare faces."""
_ASIDE = (0.0531, 0.0317, 0.0)
"""Cells: all solids come from one grid, and points of theirs in one place make needles."""
_NEEDLE = 2e-4  # cells
_PART_STEP = 0.05


def joined(balloon: Balloon, layers: Sequence[tuple[manifold3d.Manifold, Heights]]) -> Balloon:
    """Join layers to the balloon.

    Args:
        balloon: closed, its rim at z = 0.
        layers: their solids in the same cells, the flat side of each at z = 0, inside the balloon,
            and their heights, for the normals.
    """
    if not layers:
        return balloon
    whole, first = to_manifold(balloon)
    rim = whole.slice(0.0).offset(-_INSET, manifold3d.JoinType.Miter)
    for number, (solid, heights) in enumerate(layers, 1):
        room = rim.extrude(solid.bounding_box()[5] + 1.0).translate((0.0, 0.0, -_INSET / 2.0))
        aside = tuple(number * step for step in _ASIDE)
        inner = _with_normals(solid, heights).translate(aside) ^ _with_normals(room, heights)
        whole += inner
    # Crumbs and hollows come of surfaces that hardly part.
    return _apart(from_manifold(largest(whole.simplify(_FINEST)), first))


def _with_normals(solid: manifold3d.Manifold, heights: Heights) -> manifold3d.Manifold:
    """Give a solid the normals of a layer at its points' places."""
    mesh = solid.to_mesh()
    points = np.asarray(mesh.vert_properties, np.float64)[:, :3]
    normals = heights.normals(points[:, 0], points[:, 1], bumps=True)
    values = np.column_stack([points, normals]).astype(np.float32)
    return manifold3d.Manifold(manifold3d.Mesh(values, np.asarray(mesh.tri_verts, np.uint32)))


def _apart(balloon: Balloon) -> Balloon:
    """Move points that a reader would take for one a little towards their own faces."""
    faces = balloon.faces
    used = np.unique(faces)
    pairs = cKDTree(balloon.points[used]).query_pairs(_NEEDLE, output_type="ndarray")
    same = np.arange(len(balloon.points)) if balloon.same is None else balloon.same
    moved = balloon.points.copy()
    for point in np.unique(used[pairs[:, 1]]):
        own = balloon.points[faces[(faces == point).any(axis=1)]]
        moved[same == point] += _PART_STEP * (own.mean(axis=(0, 1)) - balloon.points[point])
    return replace(balloon, points=moved)
