"""How far a model is from the truth, both seen from the front without perspective."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from worker_vm.rendering import kernels

Array = NDArray[np.float64]

Paint = Callable[[NDArray[np.integer], Array], Array]
"""sRGB 0…255 (n, 3) of faces (n,) at barycentric weights (n, 3)."""

_SIDE = 512
_SPAN = 1.3


@dataclass(frozen=True)
class Surface:
    """A mesh with normals and colours."""

    points: Array
    normals: Array
    faces: NDArray[np.integer]
    paint: Paint

    def fitted(self, to: "Surface") -> "Surface":
        """Scale and move it so that its box, seen from the front, is that of another."""
        low, high = self.points.min(axis=0), self.points.max(axis=0)
        there_low, there_high = to.points.min(axis=0), to.points.max(axis=0)
        scale = (there_high - there_low)[:2].max() / (high - low)[:2].max()
        points = (self.points - (low + high) / 2) * scale + (there_low + there_high) / 2
        return Surface(points, self.normals, self.faces, self.paint)


@dataclass(frozen=True)
class Errors:
    """What a table shows; lower is better but for `iou`."""

    iou: float
    """of the silhouettes"""
    normal: float
    """degrees between the normals of the front, mean where both are"""
    thickness: float
    """difference of the depth from front to back, summed, as a share of the truth's"""
    front: float
    """mean distance of the front surfaces along z, best offset, as a share of the height"""
    back: float
    """mean difference of the base colours seen from behind (CIELAB)"""


def compare(made: Surface, truth: Surface) -> Errors:
    """Measure one model against the truth."""
    made = made.fitted(truth)
    ours, theirs = _View(made), _View(truth)
    both, either = ours.solid & theirs.solid, ours.solid | theirs.solid
    cosine = np.clip((ours.normal[both] * theirs.normal[both]).sum(axis=1), -1.0, 1.0)
    difference = np.abs(ours.thickness - theirs.thickness).sum()
    apart = ours.front[both] - theirs.front[both]
    height = float(np.ptp(truth.points[:, :2], axis=0).max())
    return Errors(
        iou=float(both.sum() / max(1, either.sum())),
        normal=float(np.degrees(np.arccos(cosine)).mean()),
        thickness=float(difference / theirs.thickness.sum()),
        front=float(np.abs(apart - np.median(apart)).mean() / height),
        back=float(np.linalg.norm(ours.behind[both] - theirs.behind[both], axis=1).mean()),
    )


class _View:
    """Depth, normals and the back's colours on a grid, from straight ahead."""

    def __init__(self, surface: Surface) -> None:
        self.solid, self.front, faces, weights = _seen(surface)
        mixed = np.einsum("nk,nkd->nd", weights, surface.normals[surface.faces[faces]])
        self.normal = np.zeros((_SIDE, _SIDE, 3))
        self.normal[self.solid] = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
        turned = surface.points * (-1.0, 1.0, -1.0)
        behind = Surface(turned, surface.normals, surface.faces, surface.paint)
        solid, back, faces, weights = _seen(behind)
        self.thickness = np.where(self.solid, self.front + back[:, ::-1], 0.0)
        colours = np.zeros((_SIDE, _SIDE, 3), np.float32)
        colours[solid] = surface.paint(faces, weights) / 255.0
        self.behind = cv2.cvtColor(colours, cv2.COLOR_RGB2LAB)[:, ::-1]


def _seen(surface: Surface) -> tuple[NDArray[np.bool_], Array, NDArray[np.integer], Array]:
    """Return where something is and its z, and there the faces and barycentric weights."""
    xy = surface.points[:, :2] * (1.0, -1.0) / _SPAN * _SIDE + _SIDE / 2
    points = np.column_stack([xy, surface.points[:, 2] + 10.0]).astype(np.float32)
    face_at = np.full((_SIDE, _SIDE), kernels.EMPTY, np.int32)
    depth_at = np.zeros((_SIDE, _SIDE), np.float32)
    kernels.rasterise(points, surface.faces.astype(np.uint32), kernels.Target(face_at, depth_at))
    solid = face_at != kernels.EMPTY
    rows, cols = np.nonzero(solid)
    corners = surface.faces[face_at[solid]]
    a, b, c = (points[corners[:, i], :2].astype(np.float64) for i in range(3))
    at = np.stack([cols, rows], axis=1) + 0.5
    weights = np.stack([_cross(b - at, c - at), _cross(c - at, a - at), _cross(a - at, b - at)], 1)
    weights /= weights.sum(axis=1, keepdims=True)
    depth = np.where(solid, depth_at.astype(np.float64) - 10.0, 0.0)
    return solid, depth, face_at[solid], weights


def _cross(a: Array, b: Array) -> Array:
    return np.asarray(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])


def textured(texture: NDArray[np.uint8], uvs: Array, faces: NDArray[np.integer]) -> Paint:
    """Return the colours of a mesh with a texture."""

    def paint(which: NDArray[np.integer], weights: Array) -> Array:
        uv = np.einsum("nk,nkd->nd", weights, uvs[faces[which]])
        cols, rows = (np.clip(uv * len(texture), 0, len(texture) - 1).astype(int)).T
        return np.asarray(texture[rows, cols], np.float64)

    return paint
