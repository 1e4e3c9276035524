"""The rasteriser's inner loops, compiled by numba.

Visibility first (a z-buffer of face numbers at two by two samples a pixel), then shading: once per
pixel where all samples lie on the same surface, once per sample at edges.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from worker_vm.rendering.jit import inlined, kernel

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
Bytes = NDArray[np.uint8]
Vector = tuple[float, float, float]

SAMPLES = 2
"""Samples per pixel along each axis."""
EMPTY = -1

# Lights in the camera's axes (x right, y up, z to the camera): direction and linear colour.
# A warm key from the upper left, a cool fill from the right, a rim light from behind.
_LIGHTS = (
    (-0.52, 0.62, 0.59, 1.62, 1.56, 1.47),
    (0.80, 0.18, 0.57, 0.46, 0.49, 0.54),
    (0.35, 0.62, -0.70, 1.10, 1.12, 1.18),
)


class Corners(NamedTuple):
    """A mesh as a camera sees it."""

    points: Floats
    """(n, 3) x, y in samples (y down) and inverse depth (larger is nearer)"""
    seen: Floats
    """(n, 3) in the camera's axes (x right, y up, z to the camera), from its target"""
    normals: Floats
    """(n, 3) in the camera's axes"""
    uvs: Floats
    """(n, 2)"""
    faces: NDArray[np.uint32]
    """(m, 3), counter-clockwise seen from outside"""


class Target(NamedTuple):
    """The z-buffer, with two by two samples a pixel."""

    face_at: Ints
    """(2h, 2w) the number of the nearest face, or EMPTY"""
    depth_at: Floats
    """(2h, 2w) its inverse depth, or 0"""


class Scene(NamedTuple):
    """What a mesh is made of and stands in."""

    texture: Floats
    """(h, w, 3) linear base colour"""
    roughness: float
    backdrop: Floats
    """(h, w, 3) linear colour behind the mesh"""
    up: Floats
    """(3,) the world's +Y in the camera's axes"""
    distance: float
    """of the camera from its target"""
    floor: float
    """its height above the target"""


class Floor(NamedTuple):
    """The floor and the shadow on it."""

    shadow: Floats
    """(k, k) darkness 0…1 over z and x from -reach to reach"""
    reach: float
    height: float
    """its y"""


@kernel
def rasterise(points: Floats, faces: NDArray[np.uint32], target: Target) -> None:
    """Draw faces into a z-buffer; faces seen from behind are skipped.

    Args:
        points: as in `Corners`.
        faces: as in `Corners`.
        target: empty at first.
    """
    face_at, depth_at = target.face_at, target.depth_at
    height, width = face_at.shape
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ax, ay, az = points[a, 0], points[a, 1], points[a, 2]
        bx, by, bz = points[b, 0], points[b, 1], points[b, 2]
        cx, cy, cz = points[c, 0], points[c, 1], points[c, 2]
        area = (cx - ax) * (by - ay) - (bx - ax) * (cy - ay)
        if area <= 0.0:
            continue
        x0 = max(math.ceil(min(ax, bx, cx) - 0.5), 0)
        x1 = min(math.floor(max(ax, bx, cx) - 0.5), width - 1)
        y0 = max(math.ceil(min(ay, by, cy) - 0.5), 0)
        y1 = min(math.floor(max(ay, by, cy) - 0.5), height - 1)
        scale = 1.0 / area
        for y in range(y0, y1 + 1):
            py = y + 0.5
            for x in range(x0, x1 + 1):
                px = x + 0.5
                wa = (cx - bx) * (py - by) - (px - bx) * (cy - by)
                wb = (ax - cx) * (py - cy) - (px - cx) * (ay - cy)
                wc = (bx - ax) * (py - ay) - (px - ax) * (by - ay)
                if wa > 0.0 or wb > 0.0 or wc > 0.0:
                    continue
                depth = -(wa * az + wb * bz + wc * cz) * scale
                if depth > depth_at[y, x]:
                    depth_at[y, x] = depth
                    face_at[y, x] = f


@inlined
def _neutral(value: float, peak: float) -> float:
    """Compress highlights and keep the rest (after Khronos' PBR Neutral), channel by channel."""
    start = 0.76
    if peak < start:
        return value
    rest = 1.0 - start
    squeezed = 1.0 - rest * rest / (peak + rest - start)
    return value * (squeezed / peak)


@inlined
def _texel(texture: Floats, u: float, v: float, channel: int) -> float:
    """Sample a linear-light texture bilinearly."""
    height, width = texture.shape[0], texture.shape[1]
    x = min(max(u * width - 0.5, 0.0), width - 1.001)
    y = min(max(v * height - 0.5, 0.0), height - 1.001)
    ix, iy = int(x), int(y)
    fx, fy = x - ix, y - iy
    top = texture[iy, ix, channel] * (1.0 - fx) + texture[iy, ix + 1, channel] * fx
    low = texture[iy + 1, ix, channel] * (1.0 - fx) + texture[iy + 1, ix + 1, channel] * fx
    return float(top * (1.0 - fy) + low * fy)


@inlined
def _lit(
    n: Vector,
    v: Vector,
    up: Vector,
    rough: float,
    low: float,
) -> tuple[float, float, float, float]:
    """Light that a surface of white base colour sends to the eye.

    Three lights with GGX highlights (Walter et al. 2007) and a hemisphere of soft light with
    Karis' 2014 approximation for its reflection; all in the camera's axes.

    Args:
        n: normal.
        v: towards the camera.
        up: the world's +Y.
        rough: 0…1
        low: nearness to the floor, 0…1.

    Returns:
        Diffuse red, green and blue, which the base colour multiplies, and specular.
    """
    nv = max(n[0] * v[0] + n[1] * v[1] + n[2] * v[2], 0.02)
    high = n[0] * up[0] + n[1] * up[1] + n[2] * up[2]
    sky = 0.5 + 0.5 * high
    open_ = 1.0 - 0.55 * low * (1.0 - sky)
    red = (0.42 + 0.36 * sky) * open_
    green = (0.41 + 0.39 * sky) * open_
    blue = (0.39 + 0.45 * sky) * open_
    alpha = rough * rough
    alpha2 = alpha * alpha
    shine = 0.0
    for light in _LIGHTS:
        nl = n[0] * light[0] + n[1] * light[1] + n[2] * light[2]
        wrapped = max((nl + 0.25) / 1.25, 0.0)
        wrapped *= wrapped * 0.5 + 0.5
        red += light[3] * wrapped * 0.42
        green += light[4] * wrapped * 0.42
        blue += light[5] * wrapped * 0.42
        if nl > 0.0:
            hx, hy, hz = light[0] + v[0], light[1] + v[1], light[2] + v[2]
            length = math.sqrt(hx * hx + hy * hy + hz * hz) + 1e-9
            nh = (n[0] * hx + n[1] * hy + n[2] * hz) / length
            vh = (v[0] * hx + v[1] * hy + v[2] * hz) / length
            d = nh * nh * (alpha2 - 1.0) + 1.0
            spread = alpha2 / (math.pi * d * d)
            k = alpha * 0.5
            mask = 1.0 / ((nl * (1.0 - k) + k) * (nv * (1.0 - k) + k) * 4.0)
            fresnel = 0.04 + 0.96 * (1.0 - vh) ** 5
            shine += light[4] * nl * spread * mask * fresnel * 2.2
    # the soft surroundings in the mirror direction
    mirror = 2.0 * nv * high - (v[0] * up[0] + v[1] * up[1] + v[2] * up[2])
    around = 0.35 + 0.5 * min(max(mirror * 1.4 + 0.45, 0.0), 1.0)
    edge = 0.04 + (max(1.0 - rough, 0.04) - 0.04) * (1.0 - nv) ** 5
    return red, green, blue, shine + around * edge * open_


@inlined
def _at(corners: Corners, f: int, px: float, py: float) -> tuple[Vector, Vector, float, float]:
    """Interpolate a face at a point of the picture, correct for perspective.

    Returns:
        Unit normal and position in the camera's axes, and the texture coordinates.
    """
    a, b, c = corners.faces[f, 0], corners.faces[f, 1], corners.faces[f, 2]
    points, normals, seen, uvs = corners.points, corners.normals, corners.seen, corners.uvs
    ax, ay = points[a, 0], points[a, 1]
    bx, by = points[b, 0], points[b, 1]
    cx, cy = points[c, 0], points[c, 1]
    wa = ((cx - bx) * (py - by) - (px - bx) * (cy - by)) * points[a, 2]
    wb = ((ax - cx) * (py - cy) - (px - cx) * (ay - cy)) * points[b, 2]
    wc = ((bx - ax) * (py - ay) - (px - ax) * (by - ay)) * points[c, 2]
    total = 1.0 / (wa + wb + wc)
    wa, wb, wc = wa * total, wb * total, wc * total
    nx = wa * normals[a, 0] + wb * normals[b, 0] + wc * normals[c, 0]
    ny = wa * normals[a, 1] + wb * normals[b, 1] + wc * normals[c, 1]
    nz = wa * normals[a, 2] + wb * normals[b, 2] + wc * normals[c, 2]
    unit = 1.0 / (math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-9)
    qx = wa * seen[a, 0] + wb * seen[b, 0] + wc * seen[c, 0]
    qy = wa * seen[a, 1] + wb * seen[b, 1] + wc * seen[c, 1]
    qz = wa * seen[a, 2] + wb * seen[b, 2] + wc * seen[c, 2]
    u = wa * uvs[a, 0] + wb * uvs[b, 0] + wc * uvs[c, 0]
    v = wa * uvs[a, 1] + wb * uvs[b, 1] + wc * uvs[c, 1]
    return (nx * unit, ny * unit, nz * unit), (qx, qy, qz), u, v


@inlined
def _colour(corners: Corners, scene: Scene, f: int, px: float, py: float) -> Vector:
    """Return the linear light that a point of the picture receives from a face."""
    normal, q, u, v = _at(corners, f, px, py)
    ex, ey, ez = -q[0], -q[1], scene.distance - q[2]
    away = 1.0 / math.sqrt(ex * ex + ey * ey + ez * ez)
    up = scene.up
    above = q[0] * up[0] + q[1] * up[1] + q[2] * up[2] - scene.floor
    low = math.exp(-max(above, 0.0) * 7.0)
    red, green, blue, shine = _lit(
        normal, (ex * away, ey * away, ez * away), (up[0], up[1], up[2]), scene.roughness, low
    )
    return (
        red * _texel(scene.texture, u, v, 0) + shine,
        green * _texel(scene.texture, u, v, 1) + shine,
        blue * _texel(scene.texture, u, v, 2) + shine,
    )


@inlined
def _coverage(target: Target, row: int, col: int) -> tuple[int, bool]:
    """Return how many of a pixel's samples are covered, and whether by one smooth surface."""
    covered = 0
    nearest, farthest = 0.0, 1e9
    for s in range(SAMPLES * SAMPLES):
        y, x = row * SAMPLES + s // SAMPLES, col * SAMPLES + s % SAMPLES
        if target.face_at[y, x] != EMPTY:
            covered += 1
            nearest = max(nearest, target.depth_at[y, x])
            farthest = min(farthest, target.depth_at[y, x])
    return covered, covered == SAMPLES * SAMPLES and nearest < farthest * 1.01


@kernel
def shade(corners: Corners, target: Target, scene: Scene, to_srgb: Bytes, out: Bytes) -> None:
    """Turn a z-buffer into a picture.

    Args:
        corners: the mesh as the camera sees it.
        target: the z-buffer, filled by `rasterise`.
        scene: what it stands in.
        to_srgb: (4096,) table from linear 0…1 to sRGB bytes.
        out: (h, w, 3) sRGB, written.
    """
    for row in range(out.shape[0]):
        for col in range(out.shape[1]):
            red, green, blue = 0.0, 0.0, 0.0
            covered, smooth = _coverage(target, row, col)
            if smooth:
                f = target.face_at[row * SAMPLES, col * SAMPLES]
                middle = SAMPLES / 2.0
                red, green, blue = _colour(
                    corners, scene, f, col * SAMPLES + middle, row * SAMPLES + middle
                )
            elif covered:
                for s in range(SAMPLES * SAMPLES):
                    y, x = row * SAMPLES + s // SAMPLES, col * SAMPLES + s % SAMPLES
                    if target.face_at[y, x] != EMPTY:
                        r, g, b = _colour(corners, scene, target.face_at[y, x], x + 0.5, y + 0.5)
                        red, green, blue = red + r, green + g, blue + b
                red, green, blue = red / covered, green / covered, blue / covered
            share = covered / (SAMPLES * SAMPLES)
            peak = max(red, green, blue, 1e-6)
            for channel, value in enumerate((red, green, blue)):
                light = share * _neutral(value, peak)
                light += (1.0 - share) * scene.backdrop[row, col, channel]
                out[row, col, channel] = to_srgb[int(min(max(light, 0.0), 1.0) * 4095.0 + 0.5)]


@kernel
def draw_backdrop(floor: Floor, eye: Floats, basis: Floats, focal: float, out: Floats) -> None:
    """Paint a light studio backdrop with the mesh's contact shadow on its floor.

    Args:
        floor: and its shadow.
        eye: (3,) the camera's position.
        basis: (3, 3) rows right, up, back.
        focal: in pixels.
        out: (h, w, 3) linear colour, written.
    """
    height, width = out.shape[0], out.shape[1]
    for row in range(height):
        py = (height / 2.0 - row - 0.5) / focal
        for col in range(width):
            px = (col + 0.5 - width / 2.0) / focal
            fx, fy = (col + 0.5) / width - 0.5, (row + 0.5) / height - 0.46
            light = 0.93 - 0.42 * (fx * fx + fy * fy)
            dy = basis[0, 1] * px + basis[1, 1] * py - basis[2, 1]
            if dy < 0.0:
                t = (floor.height - eye[1]) / dy
                x = eye[0] + t * (basis[0, 0] * px + basis[1, 0] * py - basis[2, 0])
                z = eye[2] + t * (basis[0, 2] * px + basis[1, 2] * py - basis[2, 2])
                light *= 1.0 - _shadow_at(floor, x, z)
            out[row, col, 0] = light * 0.985
            out[row, col, 1] = light * 0.99
            out[row, col, 2] = light


@inlined
def _shadow_at(floor: Floor, x: float, z: float) -> float:
    """Sample the contact shadow bilinearly; none beyond its square."""
    cells = floor.shadow.shape[0]
    gx = (x / floor.reach * 0.5 + 0.5) * cells - 0.5
    gz = (z / floor.reach * 0.5 + 0.5) * cells - 0.5
    if not (0.0 <= gx < cells - 1.001 and 0.0 <= gz < cells - 1.001):
        return 0.0
    ix, iz = int(gx), int(gz)
    ax, az = gx - ix, gz - iz
    near = floor.shadow[iz, ix] * (1.0 - ax) + floor.shadow[iz, ix + 1] * ax
    far = floor.shadow[iz + 1, ix] * (1.0 - ax) + floor.shadow[iz + 1, ix + 1] * ax
    return float(near * (1.0 - az) + far * az)
