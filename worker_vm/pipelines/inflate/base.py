"""A flat base, so that the model stands."""

from dataclasses import replace

import manifold3d
import numpy as np

from worker_vm.pipelines.base import PipelineError
from worker_vm.pipelines.inflate.opening import Balloon
from worker_vm.pipelines.inflate.topology import is_one_closed_body, used

_LEVEL = 1e-3  # cells


def flattened(balloon: Balloon, share: float) -> Balloon:
    """Cut off the lowest part of a balloon and close it with a flat face.

    Args:
        balloon: closed.
        share: of its height that goes.

    Raises:
        PipelineError: BASE_TOO_THIN, it would fall into pieces or end in a line.
    """
    y = balloon.points[:, 1]
    floor = float(y.max() - share * (y.max() - y.min()))
    if share <= 0.0:
        return balloon
    solid = _manifold(balloon).trim_by_plane((0.0, -1.0, 0.0), -floor)
    if solid.is_empty() or solid.status() != manifold3d.Error.NoError:
        raise _too_thin()
    mesh = solid.to_mesh()
    points = np.asarray(mesh.vert_properties, np.float64)
    faces = np.asarray(mesh.tri_verts, np.int64)
    joined = np.arange(len(points))
    joined[np.asarray(mesh.merge_from_vert, np.int64)] = np.asarray(mesh.merge_to_vert, np.int64)
    starts = np.asarray(mesh.run_index) // 3
    run = np.repeat(np.asarray(mesh.run_original_id, np.int64), np.diff(starts))
    faces = joined[faces][:, ::-1]
    front, back = int(run.min()), int(run.min()) + 1
    level = (np.abs(points[faces][..., 1] - floor) < _LEVEL).all(axis=1)
    cut = Balloon(
        points=points[:, :3],
        normals=points[:, 3:] / np.maximum(np.linalg.norm(points[:, 3:], axis=1), 1e-9)[:, None],
        front=faces[(run == front) & ~level],
        back=faces[(run == back) & ~level],
        base=faces[level],
    )
    whole, renamed = used(np.column_stack([cut.points, cut.normals]), cut.faces)
    ends = np.cumsum([len(cut.front), len(cut.back)])
    parts = np.split(renamed, ends)
    result = replace(
        cut, points=whole[:, :3], normals=whole[:, 3:], front=parts[0], back=parts[1], base=parts[2]
    )
    if not len(result.base) or not is_one_closed_body(result.faces):
        raise _too_thin()
    return result


def _manifold(balloon: Balloon) -> manifold3d.Manifold:
    """Front and back as runs of their own, with normals to be interpolated."""
    first = int(manifold3d.Manifold.reserve_ids(2))
    faces = np.vstack([balloon.front, balloon.back])[:, ::-1]  # y points down
    return manifold3d.Manifold(
        manifold3d.Mesh(
            np.column_stack([balloon.points, balloon.normals]).astype(np.float32),
            np.ascontiguousarray(faces, dtype=np.uint32),
            run_index=np.array([0, 3 * len(balloon.front), 3 * len(faces)], dtype=np.uint32),
            run_original_id=np.array([first, first + 1], dtype=np.uint32),
        )
    )


def _too_thin() -> PipelineError:
    return PipelineError(
        "BASE_TOO_THIN",
        "No flat base can be cut: the subject would fall apart there; lower `flat_base`.",
        permanent=True,
    )
