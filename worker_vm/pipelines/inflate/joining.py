"""Put a layer on a balloon: the union of two solids, each with normals of its own."""

from dataclasses import replace

import manifold3d
import numpy as np
from scipy.spatial import cKDTree

from worker_vm.pipelines.inflate.balloon import Balloon, from_manifold, to_manifold
from worker_vm.pipelines.inflate.heights import Heights
from worker_vm.pipelines.inflate.membrane import Array
from worker_vm.pipelines.inflate.opening import largest

_INSET = 0.5
"""Cells: as far from the rim a layer ends; a coarse mesh's rim is not quite the outline."""
_FINEST = 0.02
"""Cells: what the crease may be moved to spare faces."""
_ASIDE = (0.0531, 0.0317, 0.0)
"""Cells: all solids come from one grid, and points of theirs in one place make needles."""
_NEEDLE = 2e-4  # cells
_PART_STEP = 0.05


def joined(balloon: Balloon, solid: manifold3d.Manifold, layer: Heights, number: int) -> Balloon:
    """Join a layer's solid to the balloon.

    Args:
        balloon: closed, its rim at z = 0.
        solid: of the layer, in the same cells, its flat side at z = 0: inside the balloon.
        layer: its heights, for the normals.
        number: of the layer, from 1.
    """
    body, first = to_manifold(balloon)
    mesh = solid.to_mesh()
    points = np.asarray(mesh.vert_properties, np.float64)[:, :3]
    whole = manifold3d.Mesh(
        np.column_stack([points, _normals(layer, points)]).astype(np.float32),
        np.ascontiguousarray(mesh.tri_verts, dtype=np.uint32),
        run_index=np.array([0, 3 * len(mesh.tri_verts)], dtype=np.uint32),
        run_original_id=np.array([first + 3], dtype=np.uint32),
    )
    top = float(points[:, 2].max()) + 1.0
    room = body.slice(0.0).offset(-_INSET, manifold3d.JoinType.Miter).extrude(top)
    room = room.translate((0.0, 0.0, -_INSET / 2.0))
    aside = tuple(number * step for step in _ASIDE)
    layered = body + (manifold3d.Manifold(whole).translate(aside) ^ room)
    # Crumbs and hollows come of surfaces that hardly part.
    result = _apart(from_manifold(largest(layered.simplify(_FINEST)), first))
    bare = ~result.normals.any(axis=1)  # where the room cut
    result.normals[bare] = _normals(layer, result.points[bare])
    return result


def _normals(layer: Heights, points: Array) -> Array:
    return layer.normals(points[:, 0], points[:, 1], bumps=True)


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
