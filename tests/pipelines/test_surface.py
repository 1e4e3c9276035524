"""Meshes of awkward silhouettes: pierced, pinched, thin and random ones."""

import cv2
import numpy as np
import pytest
import trimesh

from worker_vm.pipelines.base import PipelineError
from worker_vm.pipelines.inflate import membrane, surface
from worker_vm.pipelines.inflate.heights import Heights


def blobs(seed: int) -> np.ndarray:
    """A random silhouette with holes and necks; its largest piece."""
    random = np.random.default_rng(seed)
    field = cv2.GaussianBlur(random.normal(0, 1, (160, 160)), (0, 0), random.uniform(3, 12))
    y, x = np.mgrid[:160, :160] / 160 - 0.5
    mask = field / field.std() + 8 * (0.34 - np.hypot(x, y)) > 0
    return (mask & (np.hypot(x, y) < 0.46)).astype(np.float32)


def mesh_of(alpha: np.ndarray, vertex_count: int) -> trimesh.Trimesh:
    """The balloon, with points in the same place joined, as a reader would."""
    outline = membrane.silhouette(alpha)
    u = membrane.inflate(outline, membrane.laplacian(outline))
    heights = Heights(u, surface.THICKNESS, np.zeros_like(u))
    balloon = surface.build(heights, vertex_count)
    points = (balloon.points * (1, -1, 1)).astype(np.float32)
    return trimesh.Trimesh(points, np.vstack([balloon.front, balloon.back]))


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
    """Over a disc of radius R the surface has depth 0.62 R, and the right volume."""
    y, x = np.mgrid[:200, :200]
    disc = np.clip(80.5 - np.hypot(x - 99.5, y - 99.5), 0, 1).astype(np.float32)
    mesh = mesh_of(disc, -1)
    radius = mesh.extents[0] / 2
    assert mesh.extents[2] / 2 == pytest.approx(0.62 * radius, rel=0.01)
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * 0.62 * radius**3, rel=0.01)


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
