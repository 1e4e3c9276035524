"""Draw the sample picture, a rubber duck, by sphere tracing a small distance field.

`python devstack/samples/draw.py` writes `duck.png` beside this file: an opaque studio picture with
a backdrop and a soft shadow, so that the cut-out has real work to do. Distance functions after
https://iquilezles.org/articles/distfunctions/ (formulas only).
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float64]

SIZE = 1024
_HIT = 5e-4
_FLOOR = -0.62
_COLLAR, _STRIPE = 2, 0.012
_KEY = np.array([-0.45, 0.75, 0.65]) / np.linalg.norm([-0.45, 0.75, 0.65])
_YELLOW, _ORANGE, _INK, _WHITE, _BLUE = (
    np.array(colour) ** 2.2
    for colour in (
        (1.0, 0.80, 0.13),
        (0.98, 0.47, 0.10),
        (0.10, 0.09, 0.12),
        (1.0, 1.0, 1.0),
        (0.16, 0.42, 0.78),
    )
)


def _ellipsoid(p: Array, centre: tuple[float, ...], radii: tuple[float, ...], tilt: float) -> Array:
    """Approximate distance to an ellipsoid turned by `tilt` radians about z."""
    q = p - np.array(centre)
    c, s = np.cos(tilt), np.sin(tilt)
    q = np.stack([c * q[:, 0] + s * q[:, 1], -s * q[:, 0] + c * q[:, 1], q[:, 2]], axis=1)
    r = np.array(radii)
    k0 = np.linalg.norm(q / r, axis=1)
    k1 = np.linalg.norm(q / r**2, axis=1)
    return np.asarray(k0 * (k0 - 1.0) / np.maximum(k1, 1e-9))


def _blend(a: Array, b: Array, width: float) -> Array:
    """Smooth union (quadratic)."""
    h = np.maximum(width - np.abs(a - b), 0.0) / width
    return np.asarray(np.minimum(a, b) - h * h * width * 0.25)


def _along_collar(p: Array) -> tuple[Array, Array]:
    """Coordinates along and across the collar's plane."""
    x, y = p[:, 0] + 0.14, p[:, 1] - 0.115
    c, s = np.cos(0.26), np.sin(0.26)
    return np.asarray(c * x + s * y), np.asarray(-s * x + c * y)


def _parts(p: Array) -> Array:
    """Distances to the parts: body, beak, collar."""
    q = p.copy()
    q[:, 2] = np.abs(q[:, 2])  # the duck is the same on both sides
    body = _ellipsoid(q, (0.07, -0.25, 0.0), (0.53, 0.36, 0.38), 0.06)
    body = _blend(body, _ellipsoid(q, (0.50, -0.02, 0.0), (0.26, 0.12, 0.16), 0.75), 0.16)
    head = _ellipsoid(q, (-0.23, 0.36, 0.0), (0.285, 0.28, 0.27), 0.0)
    body = _blend(body, head, 0.13)
    body = _blend(body, _ellipsoid(q, (-0.20, 0.655, 0.0), (0.035, 0.10, 0.035), -0.5), 0.06)
    body = _blend(body, _ellipsoid(q, (0.19, -0.19, 0.33), (0.30, 0.17, 0.11), 0.28), 0.03)
    beak = _ellipsoid(q, (-0.53, 0.335, 0.0), (0.155, 0.050, 0.16), -0.16)
    beak = _blend(beak, _ellipsoid(q, (-0.49, 0.270, 0.0), (0.125, 0.045, 0.12), 0.10), 0.03)
    x, y = _along_collar(q)
    collar = np.hypot(np.hypot(x, q[:, 2]) - 0.165, y) - 0.05
    return np.stack([body, beak, collar], axis=1)


def _distance(p: Array) -> Array:
    return np.asarray(_parts(p).min(axis=1))


def _normal(p: Array) -> Array:
    step = 1e-3
    axes = [np.eye(3)[i] * step for i in range(3)]
    n = np.stack([_distance(p + a) - _distance(p - a) for a in axes], axis=1)
    return np.asarray(n / np.linalg.norm(n, axis=1, keepdims=True))


def _trace(x: Array, y: Array) -> tuple[Array, NDArray[np.bool_]]:
    """March parallel rays along -z; return the points reached and whether they hit."""
    p = np.stack([x, y, np.full_like(x, 1.0)], axis=1)
    live = np.arange(len(p))
    hit = np.zeros(len(p), dtype=bool)
    for _ in range(96):
        d = _distance(p[live])
        hit[live[d < _HIT]] = True
        p[live, 2] -= 0.9 * d
        live = live[(d >= _HIT) & (p[live, 2] > -1.0)]
        if not len(live):
            break
    return p, hit


def _occlusion(p: Array, n: Array) -> Array:
    """Share of open sky about a point, from distances along its normal."""
    dark = np.zeros(len(p))
    for i, reach in enumerate((0.03, 0.08, 0.16, 0.28)):
        nearest = np.minimum(_distance(p + n * reach), p[:, 1] + n[:, 1] * reach - _FLOOR + 0.03)
        dark += 0.62**i * np.maximum(reach - nearest, 0.0) / reach
    return np.clip(1.0 - 0.32 * dark, 0.25, 1.0)


def _colour(p: Array) -> Array:
    """Base colour in linear light: part by part, then the painted eye and cheek."""
    part = _parts(p).argmin(axis=1)
    base = np.stack([_YELLOW, _ORANGE, _BLUE])[part]
    base[(part == _COLLAR) & (np.abs(_along_collar(p)[1]) < _STRIPE)] = _WHITE

    def spot(cx: float, cy: float, rx: float, ry: float) -> Array:
        r = np.hypot((p[:, 0] - cx) / rx, (p[:, 1] - cy) / ry)
        return np.asarray(np.clip((1.0 - r) * min(rx, ry) / 0.004 + 0.5, 0.0, 1.0)[:, None])

    on_head = (part == 0)[:, None]
    for amount, colour in (
        (0.30 * np.clip(1.6 * (1 - np.hypot(p[:, 0] + 0.27, p[:, 1] - 0.27) / 0.09), 0, 1)[:, None],
         _ORANGE),
        (spot(-0.335, 0.425, 0.060, 0.074), _WHITE),
        (spot(-0.347, 0.420, 0.042, 0.055), _INK),
        (spot(-0.362, 0.440, 0.013, 0.015), _WHITE),
    ):  # fmt: skip
        base = np.asarray(np.where(on_head, base + (colour - base) * amount, base))
    return np.asarray(base)


def _shade(p: Array) -> Array:
    """Soft studio light: a wrapped key, a sky, a warm bounce from below and two highlights."""
    n = _normal(p)
    base = _colour(p)
    open_sky = _occlusion(p, n)[:, None]
    key = np.clip((n @ _KEY + 0.30) / 1.30, 0.0, 1.0)[:, None] ** 1.2
    sky = (0.5 + 0.5 * n[:, 1])[:, None]
    light = 0.66 * key + open_sky * (0.30 * sky + 0.24 * (1 - sky) * np.array([1.0, 0.86, 0.66]))
    half = _KEY + np.array([0.0, 0.0, 1.0])
    half /= np.linalg.norm(half)
    glint = np.clip(n @ half, 0.0, 1.0)[:, None]
    rim = (1.0 - np.clip(n[:, 2], 0.0, 1.0))[:, None] ** 3
    shine = 0.26 * glint**70 + 0.06 * glint**10 + 0.05 * rim * sky
    return np.asarray(base * light * (0.35 + 0.65 * open_sky) * 1.34 + shine)


def _backdrop(x: Array, y: Array) -> Array:
    """Light grey-green paper with a vignette and the duck's soft shadow on the floor."""
    paper = np.array([0.80, 0.865, 0.86])[None] ** 2.2
    fall = 1.06 - 0.16 * np.hypot(x, y - 0.1)[:, None] ** 2
    blob = np.exp(-(((x - 0.09) / 0.50) ** 4) - (np.abs(y - _FLOOR - 0.005) / 0.045) ** 2)
    wide = np.exp(-(((x - 0.12) / 0.66) ** 2) - (np.abs(y - _FLOOR + 0.01) / 0.10) ** 2)
    return np.asarray(paper * fall * (1.0 - 0.34 * blob - 0.22 * wide)[:, None])


def draw(size: int = SIZE) -> Image.Image:
    """Return the picture at `size` x `size` pixels, from two by two samples each."""
    fine = size * 2
    axis = ((np.arange(fine) + 0.5) / fine * 2.0 - 1.0) * 0.90
    rows = []
    for band in np.array_split(-axis, 16):
        x, y = (grid.ravel() for grid in np.meshgrid(axis, band))
        colour = _backdrop(x, y)
        p, hit = _trace(x, y)
        if hit.any():
            colour[hit] = _shade(p[hit])
        rows.append(colour.reshape(len(band), fine, 3))
    linear = np.concatenate(rows).reshape(size, 2, size, 2, 3).mean(axis=(1, 3))
    grain = np.random.default_rng(1).normal(0.0, 0.16, (size, size, 1))  # against banding
    pixels = np.clip(linear, 0.0, 1.0) ** (1 / 2.2) * 255.0 + grain
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


if __name__ == "__main__":
    draw().save(Path(__file__).with_name("duck.png"), optimize=True)
