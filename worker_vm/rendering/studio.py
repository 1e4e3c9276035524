"""A studio for product shots of one mesh."""

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from worker_vm.gltf import Mesh
from worker_vm.rendering import kernels
from worker_vm.rendering.camera import FIELD_OF_VIEW, Array, Camera, fitting_distance

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

_SHADOW_CELLS = 192
_SHADOW_REACH = 1.3
_TEXTURE_SIDE = 1024
_CLAY = (0.60, 0.565, 0.53)
_FILL = 0.80


def srgb_to_linear(values: NDArray[np.uint8]) -> Floats:
    """Decode sRGB bytes to linear light 0…1 (IEC 61966-2-1)."""
    v = np.arange(256) / 255.0
    table = np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4).astype(np.float32)  # noqa: PLR2004
    return np.asarray(table[values])


def _srgb_table() -> Bytes:
    v = np.arange(4096) / 4095.0
    encoded = np.where(v <= 0.0031308, v * 12.92, 1.055 * v ** (1 / 2.4) - 0.055)  # noqa: PLR2004
    return np.rint(encoded * 255.0).astype(np.uint8)


_TO_SRGB = _srgb_table()


@dataclass(frozen=True)
class Look:
    """How the surface looks."""

    texture: Floats
    """(h, w, 3) linear base colour."""
    roughness: float


def clay() -> Look:
    """Return plain modelling clay, which shows the shape."""
    return Look(np.full((2, 2, 3), _CLAY, dtype=np.float32), 0.58)


def textured(texture: Bytes, roughness: float) -> Look:
    """Return a look with an sRGB texture (h, w, 3)."""
    if max(texture.shape[:2]) > _TEXTURE_SIDE:
        size = (_TEXTURE_SIDE, _TEXTURE_SIDE * texture.shape[0] // texture.shape[1])
        texture = np.asarray(cv2.resize(texture, size, interpolation=cv2.INTER_AREA), np.uint8)
    return Look(srgb_to_linear(texture), roughness)


@dataclass
class Studio:
    """One mesh on a floor, ready to be looked at from several sides."""

    mesh: Mesh
    _distance: float = field(init=False)
    _points: Array = field(init=False)
    _target: Array = field(init=False)
    _floor: kernels.Floor = field(init=False)

    def __post_init__(self) -> None:
        self._points = self.mesh.positions.astype(np.float64)
        low, high = self._points.min(axis=0), self._points.max(axis=0)
        self._target = (low + high) / 2.0
        round_ = [(angle, np.deg2rad(10.0)) for angle in np.linspace(0, 2 * np.pi, 24, False)]  # noqa: FBT003
        some = self._points[:: max(1, len(self._points) // 3000)]
        self._distance = fitting_distance(some, self._target, round_, _FILL)
        shadow = contact_shadow(self._points, self.mesh.faces, float(low[1]))
        self._floor = kernels.Floor(shadow, _SHADOW_REACH, float(low[1]))

    def render(self, look: Look, *, azimuth: float, elevation: float, size: int) -> Bytes:
        """Return a picture (size, size, 3), sRGB.

        Args:
            look: of the surface.
            azimuth: degrees; 0 sees the front, positive the +X side.
            elevation: degrees above the horizon.
            size: pixels.
        """
        camera = Camera(self._target, np.deg2rad(azimuth), np.deg2rad(elevation), self._distance)
        fine = size * kernels.SAMPLES
        basis = camera.basis.astype(np.float32)
        corners = kernels.Corners(
            points=camera.project(self._points, fine).astype(np.float32),
            seen=camera.to_view(self._points).astype(np.float32),
            normals=np.ascontiguousarray(self.mesh.normals @ basis.T),
            uvs=self.mesh.uvs,
            faces=self.mesh.faces,
        )
        target = kernels.Target(
            np.full((fine, fine), kernels.EMPTY, dtype=np.int32),
            np.zeros((fine, fine), dtype=np.float32),
        )
        kernels.rasterise(corners.points, corners.faces, target)
        scene = kernels.Scene(
            texture=look.texture,
            roughness=look.roughness,
            backdrop=self._backdrop(camera, size),
            up=np.ascontiguousarray(basis[:, 1]),
            distance=self._distance,
            floor=float(self._floor.height - self._target[1]),
        )
        out = np.empty((size, size, 3), dtype=np.uint8)
        kernels.shade(corners, target, scene, _TO_SRGB, out)
        return out

    def _backdrop(self, camera: Camera, size: int) -> Floats:
        out = np.empty((size, size, 3), dtype=np.float32)
        eye = (self._target + camera.basis[2] * camera.distance).astype(np.float32)
        focal = float(size / (2.0 * np.tan(FIELD_OF_VIEW / 2.0)))
        kernels.draw_backdrop(self._floor, eye, camera.basis.astype(np.float32), focal, out)
        return out


def contact_shadow(points: Array, faces: NDArray[np.uint32], floor: float) -> Floats:
    """Return how much a mesh darkens the floor, (k, k) over z and x from -1.3 to 1.3.

    Parts near the floor darken it sharply, higher ones widely.
    """
    a, b, c = (points[faces[:, i]] for i in range(3))
    centre = (a + b + c) / 3.0
    shade = np.abs(np.cross(b - a, c - a)[:, 1]) / 2.0  # area seen from above
    cells = ((centre[:, [2, 0]] / _SHADOW_REACH * 0.5 + 0.5) * _SHADOW_CELLS).astype(np.int64)
    cells = np.clip(cells, 0, _SHADOW_CELLS - 1)
    flat = cells[:, 0] * _SHADOW_CELLS + cells[:, 1]
    cell_area = (2.0 * _SHADOW_REACH / _SHADOW_CELLS) ** 2
    height = centre[:, 1] - floor
    light = np.ones((_SHADOW_CELLS, _SHADOW_CELLS))
    for fade, blur, strength in ((0.05, 1.8, 0.50), (0.16, 5.0, 0.30), (0.50, 13.0, 0.22)):
        weight = shade * np.exp(-height / fade)
        total = np.bincount(flat, weight, _SHADOW_CELLS**2).reshape(_SHADOW_CELLS, -1)
        covered = cv2.GaussianBlur(total / cell_area, (0, 0), blur)
        light *= 1.0 - strength * (1.0 - np.exp(-1.5 * covered))
    return (1.0 - light).astype(np.float32)
