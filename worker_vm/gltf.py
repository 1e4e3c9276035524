"""Write a textured triangle mesh as binary glTF 2.0 (GLB).

Specification: https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FLOAT, _UINT16, _UINT32 = 5126, 5123, 5125
_ARRAY_BUFFER, _ELEMENT_ARRAY_BUFFER = 34962, 34963
_LINEAR, _LINEAR_MIPMAP_LINEAR, _CLAMP = 9729, 9987, 33071
_MAX_UINT16_VERTICES = 65535  # 65535 itself would restart the primitive


@dataclass(frozen=True)
class Mesh:
    """Triangles with one texture; +Y up, the front towards +Z."""

    positions: NDArray[np.float32]
    """(n, 3)"""
    normals: NDArray[np.float32]
    """(n, 3), unit"""
    uvs: NDArray[np.float32]
    """(n, 2) in 0…1, v downwards as in glTF"""
    faces: NDArray[np.uint32]
    """(m, 3), counter-clockwise seen from outside"""
    tangents: NDArray[np.float32] | None = None
    """(n, 4), unit with the bitangent's sign; needed where there is a normal map"""


@dataclass(frozen=True)
class Material:
    """glTF's metallic-roughness material with a base colour texture."""

    image: bytes
    """a whole PNG or JPEG file"""
    media_type: str
    roughness: float
    metallic: float = 0.0
    normal_map: bytes | None = None
    """a whole PNG file"""


class _Buffer:
    """The binary chunk and its views, each aligned to four bytes."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[dict[str, Any]] = []

    def add(self, raw: bytes, target: int | None = None) -> int:
        """Append bytes and return the index of their view."""
        view: dict[str, Any] = {
            "buffer": 0, "byteOffset": len(self.data), "byteLength": len(raw)
        }  # fmt: skip
        if target is not None:
            view["target"] = target
        self.data += raw + b"\0" * (-len(raw) % 4)
        self.views.append(view)
        return len(self.views) - 1


def write_glb(
    path: Path, mesh: Mesh, material: Material, *, name: str, extras: Mapping[str, Any]
) -> None:
    """Write one GLB file; the same arguments give the same bytes.

    Args:
        path: where to.
        mesh: the triangles.
        material: how they look.
        name: of the mesh and its node.
        extras: JSON kept in `asset.extras`.
    """
    buffer = _Buffer()
    attributes, indices, accessors = _accessors(mesh, buffer)
    images = [{"bufferView": buffer.add(material.image), "mimeType": material.media_type}]
    surface: dict[str, Any] = {
        "name": name,
        "pbrMetallicRoughness": {
            "baseColorTexture": {"index": 0},
            "metallicFactor": material.metallic,
            "roughnessFactor": material.roughness,
        },
    }
    if material.normal_map is not None:
        surface["normalTexture"] = {"index": len(images)}
        images.append({"bufferView": buffer.add(material.normal_map), "mimeType": "image/png"})
    document = {
        "asset": {"version": "2.0", "generator": "Pipeline 3D", "extras": dict(extras)},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": name}],
        "meshes": [
            {
                "name": name,
                "primitives": [{"attributes": attributes, "indices": indices, "material": 0}],
            }
        ],
        "materials": [surface],
        "textures": [{"sampler": 0, "source": source} for source in range(len(images))],
        "samplers": [
            {
                "magFilter": _LINEAR,
                "minFilter": _LINEAR_MIPMAP_LINEAR,
                "wrapS": _CLAMP,
                "wrapT": _CLAMP,
            }
        ],
        "images": images,
        "accessors": accessors,
        "bufferViews": buffer.views,
        "buffers": [{"byteLength": len(buffer.data)}],
    }
    path.write_bytes(_container(document, bytes(buffer.data)))


def _accessors(mesh: Mesh, buffer: _Buffer) -> tuple[dict[str, int], int, list[dict[str, Any]]]:
    """Append the mesh's arrays; the attributes' and the indices' accessors, and all of them."""
    arrays = [
        ("POSITION", mesh.positions, "VEC3"),
        ("NORMAL", mesh.normals, "VEC3"),
        ("TEXCOORD_0", mesh.uvs, "VEC2"),
    ]
    if mesh.tangents is not None:
        arrays.append(("TANGENT", mesh.tangents, "VEC4"))
    accessors: list[dict[str, Any]] = []
    for _, values, kind in arrays:
        array = np.ascontiguousarray(values, dtype="<f4")
        accessors.append(
            {
                "bufferView": buffer.add(array.tobytes(), _ARRAY_BUFFER),
                "componentType": _FLOAT,
                "count": len(array),
                "type": kind,
            }
        )
    accessors[0]["min"] = mesh.positions.min(axis=0).astype(float).tolist()
    accessors[0]["max"] = mesh.positions.max(axis=0).astype(float).tolist()
    short = len(mesh.positions) <= _MAX_UINT16_VERTICES
    indices = np.ascontiguousarray(mesh.faces, dtype="<u2" if short else "<u4")
    accessors.append(
        {
            "bufferView": buffer.add(indices.tobytes(), _ELEMENT_ARRAY_BUFFER),
            "componentType": _UINT16 if short else _UINT32,
            "count": indices.size,
            "type": "SCALAR",
        }
    )
    attributes = {name: number for number, (name, _, _) in enumerate(arrays)}
    return attributes, len(arrays), accessors


def _container(document: Mapping[str, Any], binary: bytes) -> bytes:
    """Put the JSON and binary chunks into one file (section 4.4)."""
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=True).encode()
    text += b" " * (-len(text) % 4)
    total = 12 + 8 + len(text) + 8 + len(binary)
    return b"".join(
        (
            struct.pack("<4sII", b"glTF", 2, total),
            struct.pack("<I4s", len(text), b"JSON"),
            text,
            struct.pack("<I4s", len(binary), b"BIN\0"),
            binary,
        )
    )
