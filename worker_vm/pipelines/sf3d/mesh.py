"""Upstream's mesh as the platform hands it out: checked, turned, of unit size, with tangents."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from worker_vm.gltf import Mesh
from worker_vm.mesh_frames import smooth_normals, tangents
from worker_vm.pipelines.base import PipelineError

Array = NDArray[Any]

_TURN = np.array([-1.0, 1.0, -1.0])
"""Half a turn about +Y: upstream's front faces -Z."""
_TINY = 1e-12


@dataclass(frozen=True)
class Result:
    """What upstream has made, ready to be written."""

    mesh: Mesh
    base_color: NDArray[np.uint8]
    """(h, w, 3), sRGB."""
    normal_map: NDArray[np.uint8] | None
    """(h, w, 3)."""
    roughness: float
    metallic: float
    scale: float
    """What upstream's lengths were multiplied by."""


def read_result(saved: Mapping[str, Any]) -> Result:
    """Read what `upstream.save_mesh` has written.

    Raises:
        PipelineError: MESH_INVALID, permanent: it is no mesh that could be shown.
    """
    with np.load(saved["arrays"], allow_pickle=False) as arrays:
        positions, uvs, faces = arrays["positions"], arrays["uvs"], arrays["faces"]
    _check(positions, uvs, faces)
    factors = np.array([saved["roughness"], saved["metallic"]])
    if not np.isfinite(factors).all():
        raise _invalid("its material is no number")
    normal_map = None if saved["normal_map"] is None else _pixels(Path(saved["normal_map"]))
    faces = _proper(faces)
    used, renamed = np.unique(faces, return_inverse=True)
    faces = renamed.reshape(faces.shape)
    points, scale = _unit_size(positions[used].astype(np.float64) * _TURN)
    directions = smooth_normals(points, faces)
    # trimesh has v upwards, glTF downwards.
    coordinates = uvs[used].astype(np.float64) * (1.0, -1.0) + (0.0, 1.0)
    mesh = Mesh(
        points.astype(np.float32),
        directions.astype(np.float32),
        coordinates.astype(np.float32),
        faces.astype(np.uint32),
        None if normal_map is None else tangents(points, directions, coordinates, faces),
    )
    roughness, metallic = np.clip(factors, 0.0, 1.0)
    base = _pixels(Path(saved["base_color"]))
    return Result(mesh, base, normal_map, float(roughness), float(metallic), scale)


def _check(positions: Array, uvs: Array, faces: Array) -> None:
    count = len(positions)
    if positions.shape != (count, 3) or uvs.shape != (count, 2) or faces.shape[1:] != (3,):
        raise _invalid("its arrays do not belong together")
    if not (np.isfinite(positions).all() and np.isfinite(uvs).all()):
        raise _invalid("it has points that are no numbers")
    if len(faces) == 0 or faces.min() < 0 or faces.max() >= count:
        raise _invalid("its triangles name points that it does not have")


def _proper(faces: Array) -> Array:
    """The triangles of three different points."""
    a, b, c = faces.T
    kept = faces[(a != b) & (b != c) & (c != a)]
    if len(kept) == 0:
        raise _invalid("none of its triangles has an area")
    return np.asarray(kept)


def _unit_size(points: Array) -> tuple[Array, float]:
    """Centre the points, and scale them so that the longest extent is 1."""
    low, high = points.min(axis=0), points.max(axis=0)
    longest = float((high - low).max())
    if longest < _TINY:
        raise _invalid("it is a single point")
    return (points - (low + high) / 2.0) / longest, 1.0 / longest


def _pixels(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def _invalid(what: str) -> PipelineError:
    return PipelineError(
        "MESH_INVALID",
        f"The model's mesh cannot be used: {what}. Another seed or picture may help.",
        permanent=True,
    )
