"""The closed surface, and its way into and out of Manifold, which cuts and joins solids."""

from dataclasses import dataclass, field

import manifold3d
import numpy as np

from worker_vm.pipelines.inflate.membrane import Array
from worker_vm.pipelines.inflate.topology import Ints


def _no_faces() -> Ints:
    return np.zeros((0, 3), np.int64)


@dataclass(frozen=True)
class Balloon:
    """The closed surface in grid cells: x right, y down the picture, z towards the viewer.

    Along a crease several points with normals of their own lie in the same place.
    """

    points: Array
    """(n, 3)"""
    normals: Array
    """(n, 3), unit, pointing out."""
    front: Ints
    """(m, 3) faces seen from +z, counter-clockwise when y points up."""
    back: Ints
    """(k, 3) faces seen from -z, likewise."""
    base: Ints = field(default_factory=_no_faces)
    """(j, 3) faces of a flat base, if it has one."""
    layers: Ints = field(default_factory=_no_faces)
    """(l, 3) faces of the layers in front, if it has any; seen from +z."""
    same: Ints | None = None
    """(n,) the first of the points in the same place; None if no two are."""

    @property
    def faces(self) -> Ints:
        """All of them, with points in the same place joined."""
        faces = np.vstack([self.front, self.back, self.base, self.layers])
        return faces if self.same is None else self.same[faces]


def to_manifold(balloon: Balloon) -> tuple[manifold3d.Manifold, int]:
    """Make it a solid with normals to be interpolated, and return the number of its first run.

    Runs: front, back, base, layers.
    """
    patches = [balloon.front, balloon.back, balloon.base, balloon.layers]
    first = int(manifold3d.Manifold.reserve_ids(len(patches)))
    ends = np.cumsum([0, *(len(patch) for patch in patches)])
    same = np.arange(len(balloon.points)) if balloon.same is None else balloon.same
    doubled = np.flatnonzero(same != np.arange(len(same)))
    mesh = manifold3d.Mesh(
        np.column_stack([balloon.points, balloon.normals]).astype(np.float32),
        np.ascontiguousarray(np.vstack(patches)[:, ::-1], dtype=np.uint32),  # y points down
        merge_from_vert=doubled.astype(np.uint32),
        merge_to_vert=same[doubled].astype(np.uint32),
        run_index=(3 * ends).astype(np.uint32),
        run_original_id=np.arange(first, first + len(patches), dtype=np.uint32),
    )
    return manifold3d.Manifold(mesh), first


def from_manifold(solid: manifold3d.Manifold, first: int) -> Balloon:
    """Read what `to_manifold` made and something was cut from or joined to; the base stays empty.

    Args:
        solid: faces of its runs `first + 3` and beyond belong to layers.
        first: see `to_manifold`.
    """
    mesh = solid.to_mesh()
    values = np.asarray(mesh.vert_properties, np.float64)
    faces = np.asarray(mesh.tri_verts, np.int64)[:, ::-1]
    same = np.arange(len(values))
    same[np.asarray(mesh.merge_from_vert, np.int64)] = np.asarray(mesh.merge_to_vert, np.int64)
    starts = np.asarray(mesh.run_index) // 3
    run = np.repeat(np.asarray(mesh.run_original_id, np.int64) - first, np.diff(starts))
    length = np.linalg.norm(values[:, 3:], axis=1, keepdims=True)
    return Balloon(
        points=values[:, :3],
        normals=values[:, 3:] / np.maximum(length, 1e-9),
        front=faces[run == 0],
        back=faces[run == 1],
        layers=faces[run > 2],  # noqa: PLR2004
        same=same,
    )
