"""The GLB writer against an independent reader."""

from pathlib import Path

import numpy as np
import pytest
import trimesh
from drawn_pictures import encode

from worker_vm.gltf import Material, Mesh, write_glb


def sheet(cells: int) -> Mesh:
    """A square sheet in the xy plane, seen from +z."""
    axis = np.linspace(-0.5, 0.5, cells + 1)
    x, y = (grid.ravel() for grid in np.meshgrid(axis, axis))
    points = np.stack([x, y, x * 0], axis=1).astype(np.float32)
    corner = np.arange((cells + 1) * cells).reshape(cells, cells + 1)[:, :-1].ravel()
    row = cells + 1
    faces = np.vstack(
        [
            np.stack([corner, corner + 1, corner + row + 1], axis=1),
            np.stack([corner, corner + row + 1, corner + row], axis=1),
        ]
    ).astype(np.uint32)
    normals = np.tile(np.array([0, 0, 1], np.float32), (len(points), 1))
    uvs = np.stack([x + 0.5, 0.5 - y], axis=1).astype(np.float32)
    return Mesh(points, normals, uvs, faces)


@pytest.mark.parametrize("cells", [1, 20, 300])
def test_reader_sees_the_same_mesh(tmp_path: Path, cells: int) -> None:
    """Points, normals, texture coordinates and faces survive, with short and long indices."""
    mesh = sheet(cells)
    image = encode(np.full((8, 8, 3), (200, 40, 10), np.uint8))
    path = tmp_path / "mesh.glb"
    write_glb(path, mesh, Material(image, "image/png", 0.5), name="sheet", extras={"seed": 4})
    read = trimesh.load(path, force="mesh", process=False)
    assert np.array_equal(read.faces, mesh.faces)
    assert np.allclose(read.vertices, mesh.positions)
    assert np.allclose(read.vertex_normals, mesh.normals)
    assert np.allclose(read.visual.uv, mesh.uvs * (1, -1) + (0, 1))
    assert read.visual.material.roughnessFactor == 0.5
    assert read.visual.material.metallicFactor == 0.0
    assert read.visual.material.baseColorTexture.getpixel((3, 3))[:3] == (200, 40, 10)


def test_bytes_are_reproducible(tmp_path: Path) -> None:
    """The same mesh is written as the same bytes."""
    material = Material(encode(np.zeros((4, 4, 3), np.uint8)), "image/png", 0.7)
    for name in ("a", "b"):
        write_glb(tmp_path / name, sheet(3), material, name="sheet", extras={})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
