"""Normals and tangents of a mesh: the frame about each vertex."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_TINY = 1e-12


def smooth_normals(positions: Array, faces: Array) -> Array:
    """The normals (n, 3) of a mesh that is smooth, also across the seams of its texture.

    Each is the mean of the triangles about a point, weighted by their angles there; points of the
    same position count as one (a texture's seam is no edge of the shape).

    Args:
        positions: (n, 3).
        faces: (m, 3), counter-clockwise seen from outside.
    """
    _, same = np.unique(positions, axis=0, return_inverse=True)
    welded = same.reshape(-1)[faces]
    corners = positions[faces].astype(np.float64)
    facing = _unit(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]))
    angles = _corner_angles(corners)
    total = np.zeros((int(same.max()) + 1, 3))
    for corner in range(3):
        np.add.at(total, welded[:, corner], facing * angles[:, corner, None])
    # Where all triangles about a point cancel out, any direction is as good.
    total[np.linalg.norm(total, axis=1) < _TINY] = (0.0, 1.0, 0.0)
    return np.asarray(_unit(total)[same.reshape(-1)])


def tangents(positions: Array, normals: Array, uvs: Array, faces: Array) -> NDArray[np.float32]:
    """The tangents (n, 4) of a mesh for its normal map.

    glTF 2.0, section 3.7.2.1, wants what MikkTSpace gives; a file that brings them looks the same
    in every viewer. As there, a tangent is the direction of growing u, averaged about a vertex by
    the angles of its corners, made perpendicular to the normal; its sign says to which side v
    grows.

    Args:
        positions: (n, 3).
        normals: (n, 3), unit.
        uvs: (n, 2), v downwards as in glTF.
        faces: (m, 3), counter-clockwise seen from outside.
    """
    corners, flat = positions[faces].astype(np.float64), uvs[faces].astype(np.float64)
    flat[..., 1] = 1.0 - flat[..., 1]  # the map's green points to growing v, upwards
    edge1, edge2 = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    (u1, v1), (u2, v2) = (flat[:, 1] - flat[:, 0]).T, (flat[:, 2] - flat[:, 0]).T
    turn = np.where(u1 * v2 - v1 * u2 < 0.0, -1.0, 1.0)
    along = _unit((edge1 * v2[:, None] - edge2 * v1[:, None]) * turn[:, None])
    angles = _corner_angles(corners)
    total = np.zeros(positions.shape)
    signs = np.zeros(len(positions))
    for corner in range(3):
        weight = angles[:, corner]
        np.add.at(total, faces[:, corner], along * weight[:, None])
        np.add.at(signs, faces[:, corner], turn * weight)
    normals = normals.astype(np.float64)
    total -= normals * (total * normals).sum(axis=1, keepdims=True)
    lost = np.linalg.norm(total, axis=1) < _TINY
    total[lost] = _any_perpendicular(normals[lost])
    side = np.where(signs < 0.0, -1.0, 1.0)
    return np.concatenate([_unit(total), side[:, None]], axis=1).astype(np.float32)


def _corner_angles(corners: Array) -> Array:
    """The angles (m, 3) of triangles (m, 3, 3)."""
    ahead = _unit(np.roll(corners, -1, axis=1) - corners)
    behind = _unit(np.roll(corners, 1, axis=1) - corners)
    return np.asarray(np.arccos(np.clip((ahead * behind).sum(axis=2), -1.0, 1.0)))


def _any_perpendicular(normals: Array) -> Array:
    """Something perpendicular to each normal, where texture coordinates give no direction."""
    axis = np.where(np.abs(normals[:, :1]) < 0.9, [[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]])  # noqa: PLR2004
    return np.asarray(np.cross(normals, axis))


def _unit(vectors: Array) -> Array:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, _TINY))
