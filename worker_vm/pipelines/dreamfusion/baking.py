"""The texture of a mesh, read off the field."""

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from worker_vm import gltf
from worker_vm.atlas import Unfolded, unfold
from worker_vm.pipelines.dreamfusion.field import Lattice
from worker_vm.pipelines.dreamfusion.meshing import Array, Surface
from worker_vm.pipelines.dreamfusion.volume import ray_weights

Bytes = NDArray[np.uint8]

_DEPTH = 3.0
"""How far above and below the surface colours are looked for, in cells of the grid."""
_SAMPLES = 8
_CHUNK = 1 << 17


def bake(lattice: Lattice, surface: Surface, side: int) -> tuple[gltf.Mesh, Bytes, int]:
    """Unfold the surface and colour its texture.

    Returns:
        The mesh at unit size around the origin, its sRGB texture (side, side, 3), and how many
        charts it has.
    """
    unfolded = unfold(surface.points, surface.faces, side)
    texture = _texture(lattice, surface, unfolded, side)
    low, high = surface.points.min(axis=0), surface.points.max(axis=0)
    points = (surface.points - (low + high) / 2.0) / (high - low).max()
    mesh = gltf.Mesh(
        points[unfolded.origins].astype(np.float32),
        surface.normals[unfolded.origins].astype(np.float32),
        unfolded.uvs.astype(np.float32),
        unfolded.faces.astype(np.uint32),
    )
    return mesh, texture, unfolded.charts


def encode_png(texture: Bytes) -> bytes:
    """Encode a texture without loss, so that charts keep their borders."""
    done, data = cv2.imencode(".png", cv2.cvtColor(texture, cv2.COLOR_RGB2BGR))
    if not done:
        raise RuntimeError("PNG encoding failed")
    return data.tobytes()


def _texture(lattice: Lattice, surface: Surface, unfolded: Unfolded, side: int) -> Bytes:
    face_at, places = unfolded.texels(side)
    rows, columns = np.nonzero(face_at >= 0)
    corners = unfolded.faces[face_at[rows, columns]]
    shares = _barycentric(places[corners], np.column_stack([columns + 0.5, rows + 0.5]))
    origins = unfolded.origins[corners]
    points = np.einsum("tc,tci->ti", shares, surface.points[origins])
    normals = np.einsum("tc,tci->ti", shares, surface.normals[origins])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    texture = np.zeros((side, side, 3), dtype=np.uint8)
    texture[rows, columns] = np.rint(_colours(lattice, points, normals) * 255.0)
    return _filled(texture, face_at >= 0)


def _colours(lattice: Lattice, points: Array, normals: Array) -> NDArray[np.float32]:
    """What an eye right above each point sees: the field rendered along a short way inwards."""
    device = lattice.values.device
    cell = 2.0 / (lattice.values.shape[-1] - 1)
    steps = torch.linspace(_DEPTH, -_DEPTH, _SAMPLES, device=device) * cell
    gap = 2.0 * _DEPTH * cell / (_SAMPLES - 1)
    found = []
    with torch.no_grad():
        for start in range(0, len(points), _CHUNK):
            part = slice(start, start + _CHUNK)
            at = torch.as_tensor(points[part], dtype=torch.float32, device=device)
            out = torch.as_tensor(normals[part], dtype=torch.float32, device=device)
            ways = at[:, None] + out[:, None] * steps[:, None]
            sigma, colours, _ = lattice.sample(ways.reshape(-1, 3))
            sigma = sigma.reshape(-1, _SAMPLES)
            weights = ray_weights(sigma, torch.full((len(at), 1), gap, device=device)) + 1e-6
            seen = (weights[..., None] * colours.reshape(-1, _SAMPLES, 3)).sum(dim=1)
            found.append((seen / weights.sum(dim=1, keepdim=True)).cpu().numpy())
    return np.concatenate(found)


def _barycentric(corners: Array, at: Array) -> Array:
    """The corners' shares (t, 3) in points (t, 2) of triangles (t, 3, 2)."""
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    ab, ac, ap = b - a, c - a, at - a
    area = ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]
    second = (ap[:, 0] * ac[:, 1] - ap[:, 1] * ac[:, 0]) / area
    third = (ab[:, 0] * ap[:, 1] - ab[:, 1] * ap[:, 0]) / area
    return np.column_stack([1.0 - second - third, second, third])


def _filled(texture: Bytes, painted: NDArray[np.bool_]) -> Bytes:
    """Carry the charts' colours outwards: filtering must not mix in what lies between them."""
    _, nearest = cv2.distanceTransformWithLabels(
        (~painted).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    source = np.zeros((int(nearest.max()) + 1, 3), dtype=np.uint8)
    source[nearest[painted]] = texture[painted]
    return np.asarray(source[nearest])
