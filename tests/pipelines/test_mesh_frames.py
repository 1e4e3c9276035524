"""Normals and tangents on shapes where they are known."""

from pathlib import Path

import numpy as np
import pytest
import trimesh
from drawn_pictures import encode

from tests.support.gltf_validator import gltf_errors, validate_gltf
from worker_vm.gltf import Material, Mesh, write_glb
from worker_vm.mesh_frames import smooth_normals, tangents


def globe() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A sphere cut open along a meridian: points, texture coordinates (v downwards), faces."""
    u, v = np.meshgrid(np.linspace(0, 1, 49), np.linspace(0.1, 0.9, 33))
    around, down = 2 * np.pi * u, np.pi * v
    # East is growing u, seen from outside with +Y up.
    points = np.stack(
        [np.sin(down) * np.sin(around), np.cos(down), np.sin(down) * np.cos(around)], -1
    )
    points[:, -1] = points[:, 0]  # the seam, exactly
    corner = np.arange(33 * 49).reshape(33, 49)
    a, b, c, d = (
        part.ravel()
        for part in (corner[:-1, :-1], corner[1:, :-1], corner[1:, 1:], corner[:-1, 1:])
    )
    faces = np.vstack([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    return points.reshape(-1, 3), np.stack([u, v], -1).reshape(-1, 2), faces


def test_a_globe_s_normals_point_outwards() -> None:
    """On the seam too, where the points of both sides have the same normal."""
    points, _, faces = globe()
    normals = smooth_normals(points, faces)
    assert np.linalg.norm(normals, axis=1) == pytest.approx(1.0)
    inner = np.abs(points[:, 1]) < 0.9  # the openings at the poles have no other side
    assert (normals * points).sum(axis=1)[inner].min() > 0.999
    grid = normals.reshape(33, 49, 3)
    assert np.array_equal(grid[:, 0], grid[:, -1])


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_globe_s_tangents_point_east(*, mirrored: bool) -> None:
    """Perpendicular to the normal, along growing u; a mirrored texture turns both."""
    points, uvs, faces = globe()
    if mirrored:
        uvs = uvs * (-1, 1) + (1, 0)
    normals = smooth_normals(points, faces)
    found = tangents(points, normals, uvs, faces)
    east = np.cross([0.0, 1.0, 0.0], points)
    east /= np.linalg.norm(east, axis=1, keepdims=True)
    assert (found[:, :3] * normals).sum(axis=1) == pytest.approx(0.0, abs=1e-5)
    sign = -1.0 if mirrored else 1.0
    assert (sign * (found[:, :3] * east).sum(axis=1)).min() > 0.99
    assert (found[:, 3] == sign).all()
    # The bitangent of glTF points up, to smaller v: so a map's green is up.
    up = np.cross(normals, found[:, :3]) * found[:, 3:]
    assert up[np.abs(points[:, 1]) < 0.9][:, 1].min() > 0


def test_broken_input_gives_usable_frames() -> None:
    """Triangles without area, in space or in the texture, still give unit vectors."""
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [2, 0, 0], [3, 0, 0]], float)
    faces = np.array([[0, 1, 2], [0, 1, 3], [0, 3, 4]])
    normals = smooth_normals(points, faces)
    found = tangents(points, normals, np.zeros((5, 2)), faces)
    assert np.linalg.norm(normals, axis=1) == pytest.approx(1.0)
    assert np.linalg.norm(found[:, :3], axis=1) == pytest.approx(1.0)
    assert (found[:, :3] * normals).sum(axis=1) == pytest.approx(0.0, abs=1e-6)


def test_a_normal_map_is_written(tmp_path: Path) -> None:
    """The file with tangents and a normal map is valid, and a reader finds both."""
    points, uvs, faces = globe()
    normals = smooth_normals(points, faces)
    mesh = Mesh(points, normals, uvs, faces, tangents(points, normals, uvs, faces))
    colour = encode(np.full((8, 8, 3), (200, 40, 10), np.uint8))
    flat = encode(np.full((4, 4, 3), (128, 128, 255), np.uint8))
    path = tmp_path / "globe.glb"
    write_glb(path, mesh, Material(colour, "image/png", 0.5, 0.2, flat), name="globe", extras={})
    assert gltf_errors(path) == []
    report = validate_gltf(path)
    assert report["info"]["maxAttributes"] == 4
    codes = {message["code"] for message in report["issues"]["messages"]}
    assert "MESH_PRIMITIVE_GENERATED_TANGENT_SPACE" not in codes
    material = trimesh.load(path, force="mesh", process=False).visual.material
    assert material.normalTexture.size == (4, 4)
    assert material.baseColorTexture.size == (8, 8)
