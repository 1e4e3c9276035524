"""Signed distance functions: negative inside, +Y up, +Z front, some 1 unit tall."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Solid = Callable[[Array], Array]
"""Distances (n,) of points (n, 3); may be approximate away from the surface."""
Point = tuple[float, float, float]


def ellipsoid(centre: Point, radii: Point) -> Solid:
    """An ellipsoid."""

    def distance(p: Array) -> Array:
        q = (p - centre) / radii
        length = np.linalg.norm(q, axis=1)
        steep = np.linalg.norm(q / radii, axis=1)
        return np.asarray(length * (length - 1.0) / np.maximum(steep, 1e-9))

    return distance


def capsule(a: Point, b: Point, radius: float, other: float | None = None) -> Solid:
    """A rod with round ends, whose radius may change along it."""
    start, along = np.array(a), np.array(b) - np.array(a)
    end = radius if other is None else other

    def distance(p: Array) -> Array:
        t = np.clip((p - start) @ along / (along @ along), 0.0, 1.0)
        away = np.linalg.norm(p - start - t[:, None] * along, axis=1)
        return np.asarray(away - (radius + (end - radius) * t))

    return distance


def box(centre: Point, half: Point, rounding: float) -> Solid:
    """A box with round edges."""

    def distance(p: Array) -> Array:
        q = np.abs(p - centre) - half + rounding
        outer = np.linalg.norm(np.maximum(q, 0.0), axis=1)
        return np.asarray(outer + np.minimum(q.max(axis=1), 0.0) - rounding)

    return distance


def torus(centre: Point, ring: float, tube: float) -> Solid:
    """A ring that faces +Z."""

    def distance(p: Array) -> Array:
        q = p - centre
        out = np.hypot(q[:, 0], q[:, 1]) - ring
        return np.asarray(np.hypot(out, q[:, 2]) - tube)

    return distance


def revolved(outline: Sequence[tuple[float, float]]) -> Solid:
    """A polygon of (radius, height) turned about the y axis."""
    flat = polygon(outline)
    return lambda p: flat(np.hypot(p[:, 0], p[:, 2]), p[:, 1])


def extruded(outline: Sequence[tuple[float, float]], half: float, rounding: float) -> Solid:
    """A polygon of (x, y) with thickness, its edges round."""
    flat = polygon(outline)

    def distance(p: Array) -> Array:
        q = np.stack([flat(p[:, 0], p[:, 1]), np.abs(p[:, 2]) - half], axis=1) + rounding
        outer = np.linalg.norm(np.maximum(q, 0.0), axis=1)
        return np.asarray(outer + np.minimum(q.max(axis=1), 0.0) - rounding)

    return distance


def polygon(outline: Sequence[tuple[float, float]]) -> Callable[[Array, Array], Array]:
    """Signed distance to a simple polygon in the plane."""
    corners = np.array(outline)

    def distance(x: Array, y: Array) -> Array:
        best = np.full(x.shape, np.inf)
        inside = np.zeros(x.shape, bool)
        for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            ex, ey = bx - ax, by - ay
            t = np.clip(((x - ax) * ex + (y - ay) * ey) / (ex * ex + ey * ey), 0.0, 1.0)
            np.minimum(best, np.hypot(x - ax - t * ex, y - ay - t * ey), out=best)
            crosses = (ay > y) != (by > y)
            inside ^= crosses & (x < ax + (y - ay) * ex / (ey or 1e-12))
        return np.where(inside, -best, best)

    return distance


def joined(solids: Sequence[Solid], blend: float = 0.0) -> Solid:
    """Union, smooth within `blend` (polynomial, Quilez)."""

    def distance(p: Array) -> Array:
        total = solids[0](p)
        for solid in solids[1:]:
            other = solid(p)
            if blend:
                h = np.maximum(blend - np.abs(total - other), 0.0) / blend
                total = np.minimum(total, other) - h * h * blend / 4.0
            else:
                total = np.minimum(total, other)
        return np.asarray(total)

    return distance


def without(solid: Solid, hole: Solid) -> Solid:
    """What is left of a solid."""
    return lambda p: np.maximum(solid(p), -hole(p))
