"""Meshes of awkward silhouettes: pierced, pinched, thin and random ones."""

import cv2
import numpy as np
import pytest
import trimesh

from worker_vm.pipelines.base import PipelineError
from worker_vm.pipelines.inflate import base, membrane, rim, surface
from worker_vm.pipelines.inflate.balloon import Balloon
from worker_vm.pipelines.inflate.heights import Heights


def blobs(seed: int) -> np.ndarray:
    """A random silhouette with holes and necks; its largest piece."""
    random = np.random.default_rng(seed)
    field = cv2.GaussianBlur(random.normal(0, 1, (160, 160)), (0, 0), random.uniform(3, 12))
    y, x = np.mgrid[:160, :160] / 160 - 0.5
    mask = field / field.std() + 8 * (0.34 - np.hypot(x, y)) > 0
    return (mask & (np.hypot(x, y) < 0.46)).astype(np.float32)


def balloon_of(alpha: np.ndarray, vertex_count: int) -> Balloon:
    outline = membrane.silhouette(alpha)
    u = membrane.inflate(outline, membrane.laplacian(outline))
    heights = Heights(u, surface.THICKNESS, np.zeros_like(u))
    return surface.build(heights, vertex_count)


def joined(balloon: Balloon) -> trimesh.Trimesh:
    points = (balloon.points * (1, -1, 1)).astype(np.float32)
    return trimesh.Trimesh(points, balloon.faces)


def mesh_of(alpha: np.ndarray, vertex_count: int) -> trimesh.Trimesh:
    """The balloon, with points in the same place joined, as a reader would."""
    return joined(balloon_of(alpha, vertex_count))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("vertex_count", [-1, 150, 1500])
def test_random_silhouettes_close(seed: int, vertex_count: int) -> None:
    """Whatever the silhouette and the number of points, the mesh is one closed body."""
    mesh = mesh_of(blobs(seed), vertex_count)
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.body_count == 1
    assert mesh.volume > 0


def test_disc_becomes_an_ellipsoid() -> None:
    """Over a disc of radius R the surface has depth 0.85 R, and the right volume."""
    y, x = np.mgrid[:200, :200]
    disc = np.clip(80.5 - np.hypot(x - 99.5, y - 99.5), 0, 1).astype(np.float32)
    mesh = mesh_of(disc, -1)
    radius = mesh.extents[0] / 2
    assert mesh.extents[2] / 2 == pytest.approx(surface.THICKNESS * radius, rel=0.02)
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * surface.THICKNESS * radius**3, rel=0.02)


def test_depth_follows_width() -> None:
    """A limb is as deep for its width as the body it hangs on."""
    y, x = np.mgrid[:240, :400]
    body = 80.5 - np.hypot(x - 110, y - 120)
    limb = 20.5 - np.hypot(np.clip(np.abs(x - 250) - 80, 0, None), y - 120)
    outline = membrane.silhouette(np.clip(np.maximum(body, limb), 0, 1).astype(np.float32))
    u = membrane.inflate(outline, membrane.laplacian(outline))
    for column in (110, 270):
        cell = round((column + 0.5) / outline.scale[0] - 0.5 + membrane.PADDING)
        half_width = (u[:, cell] > 0).sum() / 2
        assert np.sqrt(u[:, cell].max()) == pytest.approx(half_width, rel=0.08)


@pytest.mark.parametrize("seed", range(4))
def test_flat_base_is_closed_and_flat(seed: int) -> None:
    """With a base, the mesh is still one closed body, and rests on many points of one height."""
    balloon = base.flattened(balloon_of(blobs(seed), -1), 0.08)
    mesh = joined(balloon)
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.volume > 0
    lowest = mesh.vertices[:, 1].min()
    assert np.ptp(mesh.vertices[mesh.vertices[:, 1] < lowest + 1e-3][:, 2]) > 1.0
    assert (mesh.vertices[:, 1] < lowest + 1e-3).sum() >= 12


def test_base_that_would_part_the_body() -> None:
    """Legs that meet only in the part cut off are refused by name."""
    alpha = np.zeros((200, 200), np.float32)
    alpha[20:180, 40:70] = alpha[20:180, 130:160] = alpha[170:180, 40:160] = 1.0
    with pytest.raises(PipelineError) as caught:
        base.flattened(balloon_of(alpha, -1), 0.2)
    assert caught.value.code == "BASE_TOO_THIN"
    assert "flat_base" in caught.value.message


def test_corner_contact_is_one_body() -> None:
    """Two squares that touch at a corner are joined there, not pinched."""
    alpha = np.zeros((200, 200), np.float32)
    alpha[50:100, 50:100] = alpha[100:150, 100:150] = 1.0
    mesh = mesh_of(alpha, -1)
    assert mesh.is_watertight
    assert mesh.euler_number == 2


def test_hairline_is_refused() -> None:
    """What vanishes on the grid is refused with a sentence."""
    alpha = np.zeros((256, 256), np.float32)
    alpha[100, 120:126] = 1.0
    with pytest.raises(PipelineError) as caught:
        membrane.silhouette(alpha)
    assert caught.value.code == "SUBJECT_TOO_THIN"


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("vertex_count", [-1, 100])
def test_normals_have_length_one(seed: int, vertex_count: int) -> None:
    """Every point has a normal, also where few points leave the rim off the outline."""
    normals = balloon_of(blobs(seed), vertex_count).normals
    assert np.linalg.norm(normals, axis=1) == pytest.approx(1.0, abs=1e-6)


def test_rim_normals_point_outwards() -> None:
    """Where the heights tell nothing, the rim's own edges do, around holes too."""
    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ring = np.stack([np.cos(turn), np.sin(turn), 0 * turn], axis=1)
    points = np.vstack([ring, ring[::-1] * 0.5])
    number = np.arange(24)
    edges = np.stack([number, (number + 1) % 24], axis=1)
    for border in (np.vstack([edges, edges + 24]), np.vstack([edges, edges + 24])[:, ::-1]):
        flat = np.tile([0.0, 0.0, 1.0], (48, 1))
        found = rim.level_normals(flat, points, np.ones(48, bool), border)
        assert found[:24] == pytest.approx(ring, abs=1e-9)
        assert found[24:] == pytest.approx(-ring[::-1], abs=1e-9)
