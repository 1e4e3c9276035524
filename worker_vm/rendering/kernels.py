"""The rasteriser's inner loops, compiled by numba.

Visibility first (a z-buffer of face numbers at two by two samples a pixel), then shading: once per
pixel where all samples lie on the same surface, once per sample at edges.
"""

import math

import numpy as np
from numpy.typing import NDArray

from worker_vm.rendering.jit import inlined, kernel

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
Bytes = NDArray[np.uint8]

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


@kernel
def rasterise(points: Floats, faces: NDArray[np.uint32], face_at: Ints, depth_at: Floats) -> None:
    """Draw faces into a z-buffer; faces seen from behind are skipped.

    Args:
        points: (n, 3) x, y in samples (y down) and inverse depth (larger is nearer).
        faces: (m, 3), counter-clockwise seen from outside in a space with y up.
        face_at: (h, w) the number of the nearest face is written here; start with EMPTY.
        depth_at: (h, w) its inverse depth; start with 0.
    """
    height, width = face_at.shape
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ax, ay, az = points[a, 0], points[a, 1], points[a, 2]
        bx, by, bz = points[b, 0], points[b, 1], points[b, 2]
        cx, cy, cz = points[c, 0], points[c, 1], points[c, 2]
        area = (cx - ax) * (by - ay) - (bx - ax) * (cy - ay)
        if area <= 0.0:
            continue
        x0 = max(int(math.ceil(min(ax, bx, cx) - 0.5)), 0)
        x1 = min(int(math.floor(max(ax, bx, cx) - 0.5)), width - 1)
        y0 = max(int(math.ceil(min(ay, by, cy) - 0.5)), 0)
        y1 = min(int(math.floor(max(ay, by, cy) - 0.5)), height - 1)
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
    return value * squeezed / peak


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
    return top * (1.0 - fy) + low * fy


@inlined
def _lit(
    n: tuple[float, float, float],
    v: tuple[float, float, float],
    up: tuple[float, float, float],
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


@kernel
def shade(
    points: Floats,
    view: Floats,
    normals: Floats,
    uvs: Floats,
    faces: NDArray[np.uint32],
    texture: Floats,
    face_at: Ints,
    depth_at: Floats,
    backdrop: Floats,
    up: Floats,
    camera: Floats,
    to_srgb: Bytes,
    out: Bytes,
) -> None:
    """Turn a z-buffer into a picture.

    Args:
        points: as for `rasterise`.
        view: (n, 3) points in the camera's axes.
        normals: (n, 3) in the camera's axes.
        uvs: (n, 2)
        faces: (m, 3)
        texture: (h, w, 3) linear base colour.
        face_at: (2h, 2w) from `rasterise`.
        depth_at: (2h, 2w) from `rasterise`.
        backdrop: (h, w, 3) linear colour behind the mesh.
        up: (3,) the world's +Y in the camera's axes.
        camera: distance, the floor's height along `up` from the target, roughness, exposure.
        to_srgb: (4096,) table from linear 0…1 to sRGB bytes.
        out: (h, w, 3) sRGB, written.
    """
    height, width = out.shape[0], out.shape[1]
    distance, floor, rough, exposure = camera[0], camera[1], camera[2], camera[3]
    upward = (up[0], up[1], up[2])
    for row in range(height):
        for col in range(width):
            red, green, blue = 0.0, 0.0, 0.0
            covered = 0
            nearest, farthest = 0.0, 1e9
            for s in range(SAMPLES * SAMPLES):
                y, x = row * SAMPLES + s // SAMPLES, col * SAMPLES + s % SAMPLES
                if face_at[y, x] != EMPTY:
                    covered += 1
                    nearest = max(nearest, depth_at[y, x])
                    farthest = min(farthest, depth_at[y, x])
            flat = covered == SAMPLES * SAMPLES and nearest < farthest * 1.01
            step = SAMPLES * SAMPLES if flat else 1
            for s in range(0, SAMPLES * SAMPLES, step):
                y, x = row * SAMPLES + s // SAMPLES, col * SAMPLES + s % SAMPLES
                f = face_at[y, x]
                if f == EMPTY:
                    continue
                a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
                px, py = x + 0.5, y + 0.5
                if flat:
                    px, py = col * SAMPLES + 1.0, row * SAMPLES + 1.0
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
                length = 1.0 / (math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-9)
                qx = wa * view[a, 0] + wb * view[b, 0] + wc * view[c, 0]
                qy = wa * view[a, 1] + wb * view[b, 1] + wc * view[c, 1]
                qz = wa * view[a, 2] + wb * view[b, 2] + wc * view[c, 2]
                ex, ey, ez = -qx, -qy, distance - qz
                away = 1.0 / math.sqrt(ex * ex + ey * ey + ez * ez)
                u = wa * uvs[a, 0] + wb * uvs[b, 0] + wc * uvs[c, 0]
                v = wa * uvs[a, 1] + wb * uvs[b, 1] + wc * uvs[c, 1]
                above = qx * up[0] + qy * up[1] + qz * up[2] - floor
                low = math.exp(-max(above, 0.0) * 7.0)
                lr, lg, lb, shine = _lit(
                    (nx * length, ny * length, nz * length),
                    (ex * away, ey * away, ez * away),
                    upward,
                    rough,
                    low,
                )
                red += (lr * _texel(texture, u, v, 0) + shine) * exposure * step
                green += (lg * _texel(texture, u, v, 1) + shine) * exposure * step
                blue += (lb * _texel(texture, u, v, 2) + shine) * exposure * step
            share = 1.0 / (SAMPLES * SAMPLES)
            red, green, blue = red * share, green * share, blue * share
            if covered > 0:
                peak = max(red, green, blue) / (covered * share)
                red = _neutral(red, peak)
                green = _neutral(green, peak)
                blue = _neutral(blue, peak)
            rest = 1.0 - covered * share
            red += rest * backdrop[row, col, 0]
            green += rest * backdrop[row, col, 1]
            blue += rest * backdrop[row, col, 2]
            out[row, col, 0] = to_srgb[int(min(max(red, 0.0), 1.0) * 4095.0 + 0.5)]
            out[row, col, 1] = to_srgb[int(min(max(green, 0.0), 1.0) * 4095.0 + 0.5)]
            out[row, col, 2] = to_srgb[int(min(max(blue, 0.0), 1.0) * 4095.0 + 0.5)]


@kernel
def draw_backdrop(
    shadow: Floats,
    reach: float,
    floor: float,
    eye: Floats,
    basis: Floats,
    focal: float,
    out: Floats,
) -> None:
    """Paint a light studio backdrop with the mesh's contact shadow on its floor.

    Args:
        shadow: (k, k) darkness 0…1 over x and z from -reach to reach.
        reach: half the side of the shadow's square.
        floor: y of the floor.
        eye: (3,) the camera's position.
        basis: (3, 3) rows right, up, back.
        focal: in pixels.
        out: (h, w, 3) linear colour, written.
    """
    height, width = out.shape[0], out.shape[1]
    cells = shadow.shape[0]
    for row in range(height):
        py = (height / 2.0 - row - 0.5) / focal
        for col in range(width):
            px = (col + 0.5 - width / 2.0) / focal
            fx, fy = (col + 0.5) / width - 0.5, (row + 0.5) / height - 0.46
            light = 0.93 - 0.42 * (fx * fx + fy * fy)
            dy = basis[0, 1] * px + basis[1, 1] * py - basis[2, 1]
            dark = 0.0
            if dy < -1e-4:
                t = (floor - eye[1]) / dy
                x = eye[0] + t * (basis[0, 0] * px + basis[1, 0] * py - basis[2, 0])
                z = eye[2] + t * (basis[0, 2] * px + basis[1, 2] * py - basis[2, 2])
                gx = (x / reach * 0.5 + 0.5) * cells - 0.5
                gz = (z / reach * 0.5 + 0.5) * cells - 0.5
                if 0.0 <= gx < cells - 1.001 and 0.0 <= gz < cells - 1.001:
                    ix, iz = int(gx), int(gz)
                    ax, az = gx - ix, gz - iz
                    dark = (shadow[iz, ix] * (1 - ax) + shadow[iz, ix + 1] * ax) * (1 - az) + (
                        shadow[iz + 1, ix] * (1 - ax) + shadow[iz + 1, ix + 1] * ax
                    ) * az
            light *= 1.0 - dark
            out[row, col, 0] = light * 0.985
            out[row, col, 1] = light * 0.99
            out[row, col, 2] = light
