"""The CPU renderer: what is seen, where, and in which colour."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from worker_vm.gltf import Mesh
from worker_vm.rendering import kernels
from worker_vm.rendering.camera import Camera, fitting_distance
from worker_vm.rendering.studio import Studio, contact_shadow, srgb_to_linear, textured

ROOT = Path(__file__).resolve().parents[2]


def squares(*places: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Squares in the picture: left, top and inverse depth; each has 20 samples a side."""
    points, faces = [], []
    for x, y, depth in places:
        start = len(points)
        points += [(x, y + 20, depth), (x + 20, y + 20, depth), (x + 20, y, depth), (x, y, depth)]
        faces += [(start, start + 1, start + 2), (start, start + 2, start + 3)]
    return np.array(points, np.float32), np.array(faces, np.uint32)


def raster(points: np.ndarray, faces: np.ndarray, size: int = 64) -> kernels.Target:
    target = kernels.Target(
        np.full((size, size), kernels.EMPTY, np.int32), np.zeros((size, size), np.float32)
    )
    kernels.rasterise(points, faces, target)
    return target


def test_square_covers_its_pixels() -> None:
    """A square from (10, 12) to (30, 32) covers exactly those 400 samples, without a gap."""
    target = raster(*squares((10, 12, 1.0)))
    covered = target.face_at != kernels.EMPTY
    assert covered.sum() == 400
    assert covered[12:32, 10:30].all()
    assert target.depth_at[20, 20] == pytest.approx(1.0)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_nearer_hides_farther(order: tuple[int, int]) -> None:
    """Of two overlapping squares the nearer is seen, in whatever order they are drawn."""
    places = [(10, 10, 0.5), (20, 20, 0.9)]
    target = raster(*squares(*(places[i] for i in order)))
    assert target.depth_at[25, 25] == pytest.approx(0.9)
    assert target.depth_at[15, 15] == pytest.approx(0.5)


def test_back_faces_are_skipped() -> None:
    """A square seen from behind leaves nothing."""
    points, faces = squares((10, 10, 1.0))
    assert (raster(points, faces[:, ::-1].copy()).face_at == kernels.EMPTY).all()


def test_squares_beyond_the_border_are_clipped() -> None:
    """Faces that reach past the picture draw only what is inside."""
    target = raster(*squares((-10, -10, 1.0), (54, 60, 1.0)))
    assert (target.face_at != kernels.EMPTY).sum() == 10 * 10 + 10 * 4


def test_camera_axes() -> None:
    """From the front +X is right and +Y up; from 90 degrees the +X side is in front."""
    points = np.array([[0.3, 0.2, 0.0], [0.0, 0.0, 0.3]])
    front = Camera(np.zeros(3), 0.0, 0.0, 3.0).project(points, 100)
    assert front[0, 0] > 50
    assert front[0, 1] < 50
    side = Camera(np.zeros(3), np.pi / 2, 0.0, 3.0).project(points, 100)
    assert side[0, 2] > 1 / 3  # nearer than the target
    assert side[1, 0] < 50


def test_fitting_distance_fits() -> None:
    """All corners of a cube are inside the picture from the chosen distance."""
    corners = np.array(np.meshgrid(*[(-0.5, 0.5)] * 3)).reshape(3, -1).T
    angles = [(a, 0.2) for a in np.linspace(0, 6, 9)]
    distance = fitting_distance(corners, np.zeros(3), angles, 0.9)
    for azimuth, elevation in angles:
        places = Camera(np.zeros(3), azimuth, elevation, distance).project(corners, 200)[:, :2]
        assert places.min() >= 0
        assert places.max() <= 200


def two_sided() -> Mesh:
    """A thin card: its front samples the texture's left half, its back the right half."""
    points = np.array([[-0.5, -0.5, 0], [0.5, -0.5, 0], [0.5, 0.5, 0], [-0.5, 0.5, 0]], np.float32)
    front = np.array([[0, 1, 2], [0, 2, 3]])
    faces = np.vstack([front, front[:, ::-1] + 4]).astype(np.uint32)
    normals = np.repeat(np.array([[0, 0, 1], [0, 0, -1]], np.float32), 4, axis=0)
    uvs = np.repeat(np.array([[0.25, 0.5], [0.75, 0.5]], np.float32), 4, axis=0)
    return Mesh(np.vstack([points, points]), normals, uvs, faces)


@pytest.mark.parametrize(("azimuth", "strongest"), [(0.0, 0), (180.0, 2)])
def test_colours_of_both_sides(azimuth: float, strongest: int) -> None:
    """The front shows the texture's red, the back its blue."""
    texture = np.zeros((16, 16, 3), np.uint8)
    texture[:, :8] = (210, 40, 40)
    texture[:, 8:] = (40, 40, 210)
    look = textured(texture, 0.7)
    picture = Studio(two_sided()).render(look, azimuth=azimuth, elevation=0.0, size=96)
    middle = picture[48, 48].astype(int)
    assert middle.argmax() == strongest
    assert middle.max() - np.sort(middle)[1] > 80
    corner = picture[2, 2].astype(int)
    assert corner.min() > 200  # a light backdrop


def test_lit_white_is_not_burnt() -> None:
    """White in full light stays just below the limit, grey in proportion."""
    values = []
    for grey in (60, 128, 250):
        look = textured(np.full((4, 4, 3), grey, np.uint8), 0.7)
        picture = Studio(two_sided()).render(look, azimuth=0.0, elevation=0.0, size=64)
        values.append(int(picture[32, 32].max()))
    assert values == sorted(values)
    assert values[-1] <= 254
    assert values[0] == pytest.approx(60, abs=30)


def test_srgb_round_trip() -> None:
    """Black, white and middle grey decode as the standard says."""
    linear = srgb_to_linear(np.array([0, 188, 255], np.uint8))
    assert linear == pytest.approx([0.0, 0.5, 1.0], abs=0.005)


def test_shadow_lies_under_the_mesh() -> None:
    """The floor is dark below the mesh and light away from it."""
    points = np.array([[-0.2, 0, -0.2], [0.2, 0, -0.2], [0.2, 0, 0.2], [-0.2, 0, 0.2]], float)
    shadow = contact_shadow(points, np.array([[0, 1, 2], [0, 2, 3]], np.uint32), 0.0)
    middle = len(shadow) // 2
    assert shadow.max() > 0.3
    assert shadow[2, 2] < 0.01
    assert np.hypot(*(np.argwhere(shadow > 0.25).mean(axis=0) - middle)) < 20


def test_cache_moves_when_the_installation_is_read_only() -> None:
    """With sources that can't be written to, the kernels' cache goes to a private folder."""
    code = (
        "import os; os.access = lambda *_: False; os.environ.pop('NUMBA_CACHE_DIR', None)\n"
        "import worker_vm.rendering.jit as jit, numba, stat\n"
        "folder = numba.config.CACHE_DIR\n"
        "assert folder == os.environ['NUMBA_CACHE_DIR'], folder\n"
        "assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700\n"
        "print('moved')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout == "moved\n", done.stderr
