"""How far a mesh is from what it should be."""

import numpy as np
import torch
import trimesh
from numpy.typing import NDArray
from oracle_scene import EXTENT, MIDDLE, inside, surface_points
from scipy.spatial import cKDTree

from worker_vm.atlas_kernels import EMPTY, draw
from worker_vm.pipelines.dreamfusion.baking import _barycentric
from worker_vm.pipelines.dreamfusion.cameras import Views

_CELLS = 80


def in_scene(mesh: trimesh.Trimesh) -> NDArray[np.float64]:
    """A GLB's points, of unit size around the origin, in the oracle's scene."""
    return np.asarray(mesh.vertices) * EXTENT + MIDDLE


def occupancy(points: NDArray[np.float64], faces: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which cells' middles of a grid over -1…1 (x, y, z) lie inside a closed mesh.

    Each column along z is inside after an odd number of faces.
    """
    flips = np.zeros((_CELLS, _CELLS, _CELLS + 1), dtype=np.int64)
    places = (points + 1.0) / 2.0 * _CELLS - 0.5  # in cells
    for a, b, c in places[faces]:
        x0, y0 = np.ceil(np.minimum(np.minimum(a, b), c)[:2]).astype(int)
        x1, y1 = np.floor(np.maximum(np.maximum(a, b), c)[:2]).astype(int)
        area = (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1])
        for x in range(x0, x1 + 1):
            for y in range(y0, y1 + 1):
                v = ((x - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (y - a[1])) / area
                w = ((b[0] - a[0]) * (y - a[1]) - (x - a[0]) * (b[1] - a[1])) / area
                if v >= 0.0 and w >= 0.0 and v + w <= 1.0:
                    z = a[2] + v * (b[2] - a[2]) + w * (c[2] - a[2])
                    flips[x, y, int(np.clip(np.ceil(z), 0, _CELLS))] += 1
    return np.asarray(np.cumsum(flips, axis=2)[..., :-1] % 2 == 1)


def scene_iou(mesh: trimesh.Trimesh) -> float:
    """Volume that a mesh shares with the scene, of what either has."""
    ours = occupancy(in_scene(mesh), np.asarray(mesh.faces))
    middles = (torch.arange(_CELLS) + 0.5) / _CELLS * 2.0 - 1.0
    grid = torch.stack(torch.meshgrid(middles, middles, middles, indexing="ij"), dim=-1)
    truth = inside(grid.reshape(-1, 3)).reshape(ours.shape).numpy()
    return float((ours & truth).sum() / (ours | truth).sum())


def scene_chamfer(mesh: trimesh.Trimesh) -> float:
    """Mean distance between the surfaces, both ways, as a share of the scene's extent."""
    placed = trimesh.Trimesh(in_scene(mesh), mesh.faces, process=False)
    ours, _ = trimesh.sample.sample_surface(placed, 8000, seed=0)
    truth = surface_points(8000)
    there, _ = cKDTree(truth).query(ours)
    back, _ = cKDTree(ours).query(truth)
    return float((there.mean() + back.mean()) / 2.0 / EXTENT)


def unlit(mesh: trimesh.Trimesh, views: Views) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """A GLB's texture (size, size, 3) in 0…1 as one view sees it in the scene, and where it is."""
    texture = np.asarray(mesh.visual.material.baseColorTexture.convert("RGB")) / 255.0
    eye, basis = views.eyes[0].double().numpy(), views.basis[0].double().numpy()
    seen = (in_scene(mesh) - eye) @ basis.T
    x, y = (seen[:, :2] / -seen[:, 2:] * float(views.focal[0])).T
    places = np.column_stack([(x + 1.0) / 2.0, (1.0 - y) / 2.0]) * views.size
    faces = np.asarray(mesh.faces, dtype=np.int64)
    face_at = np.full((views.size, views.size), EMPTY, dtype=np.int32)
    nearness = np.column_stack([places, -1.0 / seen[:, 2]])
    depth_at = np.full(face_at.shape, -np.inf)
    draw(np.ascontiguousarray(nearness), faces, face_at, depth_at, np.zeros(len(faces), np.bool_))
    rows, columns = np.nonzero(face_at != EMPTY)
    corners = faces[face_at[rows, columns]]
    shares = _barycentric(places[corners], np.column_stack([columns + 0.5, rows + 0.5]))
    u, v = np.einsum("tc,tci->ti", shares, np.asarray(mesh.visual.uv)[corners]).T
    side = len(texture)
    picture = np.zeros((views.size, views.size, 3))
    texel_rows = np.clip(((1.0 - v) * side).astype(int), 0, side - 1)
    picture[rows, columns] = texture[texel_rows, np.clip((u * side).astype(int), 0, side - 1)]
    return picture, face_at != EMPTY
