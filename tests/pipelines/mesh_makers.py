"""Meshes with known faults, and GLB files of them."""

import io
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from worker_vm.gltf import Material, Mesh, write_glb

Faces = np.ndarray
Points = np.ndarray


def sphere(rings: int = 24, radius: float = 0.5) -> tuple[Points, Faces]:
    """A closed ball of 4 * rings * (rings - 1) triangles, points shared, wound outwards."""
    sides = 2 * rings
    tilt = np.pi * np.arange(1, rings) / rings
    turn = 2 * np.pi * np.arange(sides) / sides
    belt = np.stack(
        [
            np.outer(np.sin(tilt), np.sin(turn)),
            np.outer(np.cos(tilt), np.ones(sides)),
            np.outer(np.sin(tilt), np.cos(turn)),
        ],
        axis=-1,
    ).reshape(-1, 3)
    points = np.vstack([[0, 1, 0], belt, [0, -1, 0]]) * radius
    side = np.arange(sides)
    after = (side + 1) % sides
    top = np.stack([np.zeros(sides, int), 1 + side, 1 + after], axis=1)
    last = 1 + (rings - 2) * sides
    bottom = np.stack([np.full(sides, len(points) - 1), last + after, last + side], axis=1)
    faces = [top, bottom]
    for ring in range(rings - 2):
        upper, lower = 1 + ring * sides, 1 + (ring + 1) * sides
        faces.append(np.stack([upper + side, lower + side, lower + after], axis=1))
        faces.append(np.stack([upper + side, lower + after, upper + after], axis=1))
    return points, np.vstack(faces)


def together(*meshes: tuple[Points, Faces]) -> tuple[Points, Faces]:
    """Several bodies in one mesh."""
    starts = np.cumsum([0, *(len(points) for points, _ in meshes)])
    return (
        np.vstack([points for points, _ in meshes]),
        np.vstack([faces + start for (_, faces), start in zip(meshes, starts[:-1], strict=True)]),
    )


def moved(mesh: tuple[Points, Faces], x: float) -> tuple[Points, Faces]:
    """A mesh a little to the right."""
    return mesh[0] + (x, 0.0, 0.0), mesh[1]


def turned_inside_out(mesh: tuple[Points, Faces]) -> tuple[Points, Faces]:
    """A mesh with all its faces wound the other way."""
    return mesh[0], mesh[1][:, ::-1]


def apart(mesh: tuple[Points, Faces]) -> tuple[Points, Faces]:
    """The same surface with points of its own for each triangle, as if all edges were seams."""
    points, faces = mesh
    return points[faces].reshape(-1, 3), np.arange(faces.size).reshape(-1, 3)


def tiles(count: int, columns: int, share: float = 1.0) -> np.ndarray:
    """Texture coordinates (count * 3, 2): a right triangle in a square of its own for each face."""
    number = np.arange(count)
    corner = np.stack([number % columns, number // columns], axis=1) / columns
    shape = np.array([[0.1, 0.1], [0.1, 0.9], [0.9, 0.1]]) / columns
    return ((corner[:, None] + shape) * share).reshape(-1, 2)


def picture(size: int = 64, kind: str = "PNG") -> bytes:
    """Red on the left, blue on the right."""
    pixels = np.zeros((size, size, 3), np.uint8)
    pixels[:, : size // 2] = (220, 20, 10)
    pixels[:, size // 2 :] = (10, 30, 200)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def glb_of(
    path: Path,
    mesh: tuple[Points, Faces],
    uvs: np.ndarray | None = None,
    image: bytes | None = None,
) -> Path:
    """Write a mesh as the pipelines do."""
    points, faces = mesh
    corners = points[faces]
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros(points.shape)
    for corner in range(3):
        np.add.at(normals, faces[:, corner], flat)
    normals[np.linalg.norm(normals, axis=1) == 0] = (0, 1, 0)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    if uvs is None:
        uvs = np.stack([points[:, 0] + 0.5, 0.5 - points[:, 1]], axis=1)
    written = Mesh(
        *(values.astype(np.float32) for values in (points, normals, uvs)), faces.astype(np.uint32)
    )
    material = Material(image or picture(), "image/png", 0.5)
    write_glb(path, written, material, name="subject", extras={})
    return path


def take_apart(path: Path) -> tuple[dict[str, Any], bytearray]:
    """The JSON and the binary chunk of a GLB."""
    data = path.read_bytes()
    length = struct.unpack_from("<I", data, 12)[0]
    return json.loads(data[20 : 20 + length]), bytearray(data[28 + length :])


def put_together(path: Path, document: Any, binary: bytes) -> None:
    """Write them back, with right lengths."""
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    path.write_bytes(
        struct.pack("<4sIII4s", b"glTF", 2, 28 + len(text) + len(binary), len(text), b"JSON")
        + text
        + struct.pack("<I4s", len(binary), b"BIN\0")
        + binary
    )


def change(path: Path, alter: Callable[[dict[str, Any], bytearray], object]) -> None:
    """Change a GLB's JSON or binary chunk in place."""
    document, binary = take_apart(path)
    alter(document, binary)
    put_together(path, document, binary)
