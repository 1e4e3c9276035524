"""Read a GLB and check its structure: everything it names is there, in bounds and finite.

A part of what Khronos' validator does, and of what every viewer relies on. It is done for each
result, whether or not a validator is installed (`validator`).
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from worker_vm.meshes.contents import BrokenGlbError, Contents, Floats, Ints, Part, Surface, Texture
from worker_vm.meshes.glb_container import Container, pick
from worker_vm.meshes.gltf_json import MaterialObject, Node, Primitive, TextureInfo

MAX_TRIANGLES = 20_000_000
"""Nodes may show one mesh many times; more would be a trap for memory."""
_MAX_PIXELS = 16384 * 16384
_TRIANGLES = 4
_UNSIGNED = {np.dtype("<u1"), np.dtype("<u2"), np.dtype("<u4")}
_UNIT_TOLERANCE = 0.01
_FARTHEST = 1e12
_FORMATS = {"PNG": "image/png", "JPEG": "image/jpeg"}


def read_glb(path: Path) -> Contents:
    """Read a file.

    Raises:
        BrokenGlbError: its structure is wrong, or it needs an extension.
    """
    return _Reader(Container(path)).read()


class _Reader:
    def __init__(self, container: Container) -> None:
        self._file = container
        self._document = container.document
        self._triangles = 0

    def read(self) -> Contents:
        document = self._document
        if document.extensions_required:
            raise BrokenGlbError(
                f"needs the extension {document.extensions_required[0]}, which not every reader has"
            )
        for index in range(len(document.accessors)):
            self._file.array(index)
        textures = tuple(self._texture(index) for index in range(len(document.textures)))
        surfaces = [self._surface(material) for material in document.materials]
        parts = tuple(
            part for node, matrix in self._placed() for part in self._parts(node, matrix, surfaces)
        )
        if not parts:
            raise BrokenGlbError("shows no triangle")
        return Contents(parts, textures)

    def _placed(self) -> list[tuple[Node, Floats]]:
        """The scene's nodes and where they stand."""
        document = self._document
        top = pick(document.scenes, document.scene, "scene")
        waiting: list[tuple[int, Floats]] = [(index, np.eye(4)) for index in top.nodes]
        seen: set[int] = set()
        placed = []
        while waiting:
            index, above = waiting.pop()
            if index in seen:
                raise BrokenGlbError(f"reaches node {index} twice")
            seen.add(index)
            node = pick(document.nodes, index, "node")
            matrix = above @ _local(node)
            placed.append((node, matrix))
            waiting.extend((child, matrix) for child in node.children)
        return placed

    def _parts(self, node: Node, matrix: Floats, surfaces: list[Surface]) -> list[Part]:
        if node.mesh is None:
            return []
        mesh = pick(self._document.meshes, node.mesh, "mesh")
        return [self._part(primitive, matrix, surfaces) for primitive in mesh.primitives]

    def _part(self, primitive: Primitive, matrix: Floats, surfaces: list[Surface]) -> Part:
        if primitive.mode != _TRIANGLES:
            raise BrokenGlbError("has a mesh that is no list of triangles")
        positions = self._attribute(primitive, "POSITION", 3)
        if positions is None:
            raise BrokenGlbError("has a mesh without positions")
        accessor = self._document.accessors[primitive.attributes["POSITION"]]
        if accessor.min is None or accessor.max is None:
            raise BrokenGlbError("has positions without min and max")
        for name in primitive.attributes:
            if len(self._file.array(primitive.attributes[name])) != len(positions):
                raise BrokenGlbError(f"has more or fewer {name} than positions")
        normals = self._attribute(primitive, "NORMAL", 3)
        _check_unit(normals, "normals")
        tangents = self._attribute(primitive, "TANGENT", 4)
        if tangents is not None:
            _check_unit(tangents[:, :3], "tangents")
        faces = self._faces(primitive, len(positions))
        turn = matrix[:3, :3]
        if np.linalg.det(turn) < 0:
            faces = faces[:, ::-1]  # mirrored: glTF turns the winding with it
        placed = positions @ turn.T + matrix[:3, 3]
        if not np.abs(placed).max() < _FARTHEST:
            raise BrokenGlbError("has points that lie too far away to be shown")
        surface = (
            Surface()
            if primitive.material is None
            else pick(surfaces, primitive.material, "material")
        )
        return Part(
            placed,
            faces,
            None if normals is None else _turned(normals, turn),
            self._attribute(primitive, "TEXCOORD_0", 2),
            surface,
        )

    def _attribute(self, primitive: Primitive, name: str, width: int) -> Floats | None:
        index = primitive.attributes.get(name)
        if index is None:
            return None
        values = self._file.array(index)
        accessor = self._document.accessors[index]
        whole = values.dtype.kind == "u" and accessor.normalized and name.startswith("TEXCOORD")
        if values.shape[1] != width or not (values.dtype.kind == "f" or whole):
            raise BrokenGlbError(f"has {name} of a type that is not allowed")
        scale = np.iinfo(values.dtype).max if whole else 1.0
        return values.astype(np.float64) / scale

    def _faces(self, primitive: Primitive, points: int) -> Ints:
        if primitive.indices is None:
            numbers: NDArray[Any] = np.arange(points)
        else:
            found = self._file.array(primitive.indices)
            if found.shape[1] != 1 or found.dtype not in _UNSIGNED:
                raise BrokenGlbError("has indices of a type that is not allowed")
            numbers = found[:, 0]
        if len(numbers) % 3:
            raise BrokenGlbError(f"has {len(numbers)} indices, which is not three for a triangle")
        if numbers.max() >= points:
            raise BrokenGlbError(f"names point {numbers.max()}, of which it has {points}")
        self._triangles += len(numbers) // 3
        if self._triangles > MAX_TRIANGLES:
            raise BrokenGlbError(f"has more than {MAX_TRIANGLES} triangles")
        return numbers.astype(np.int64).reshape(-1, 3)

    def _surface(self, material: MaterialObject) -> Surface:
        pbr = material.pbr_metallic_roughness
        for info in (material.occlusion_texture, material.emissive_texture):
            self._texture_index(info)
        return Surface(
            base_color=pbr.base_color_factor,
            metallic=pbr.metallic_factor,
            roughness=pbr.roughness_factor,
            base_color_texture=self._texture_index(pbr.base_color_texture),
            metallic_roughness_texture=self._texture_index(pbr.metallic_roughness_texture),
            normal_texture=self._texture_index(material.normal_texture),
            double_sided=material.double_sided,
        )

    def _texture_index(self, info: TextureInfo | None) -> int | None:
        if info is None:
            return None
        pick(self._document.textures, info.index, "texture")
        return info.index

    def _texture(self, index: int) -> Texture:
        texture = self._document.textures[index]
        if texture.sampler is not None:
            pick(self._document.samplers, texture.sampler, "sampler")
        image = pick(self._document.images, texture.source, "image")
        if image.uri is not None or image.buffer_view is None:
            raise BrokenGlbError(f"has an image ({texture.source}) that is in another file")
        data = bytes(self._file.view(image.buffer_view))
        media_type, size = _decoded(data, f"has an image ({texture.source}) that")
        if media_type != image.mime_type:
            raise BrokenGlbError(
                f"has an image ({texture.source}) that is {media_type}, not {image.mime_type}"
            )
        return Texture(data, media_type, *size)


def _decoded(data: bytes, whose: str) -> tuple[str, tuple[int, int]]:
    """The type and the size of a picture, all of which can be decoded."""
    try:
        with Image.open(io.BytesIO(data), formats=tuple(_FORMATS)) as picture:
            small = picture.width * picture.height <= _MAX_PIXELS
            if small:
                picture.load()
            media_type, size = _FORMATS[picture.format or ""], picture.size
    except Exception as error:  # decoders raise nearly everything on broken files
        raise BrokenGlbError(f"{whose} cannot be decoded") from error
    if not small:
        raise BrokenGlbError(f"{whose} is larger than anybody can show")
    return media_type, size


def _local(node: Node) -> Floats:
    """A node's own matrix."""
    if node.matrix is not None:
        return np.array(node.matrix).reshape(4, 4).T
    x, y, z, w = node.rotation
    turn = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    matrix = np.eye(4)
    matrix[:3, :3] = turn * node.scale
    matrix[:3, 3] = node.translation
    return matrix


def _turned(normals: Floats, turn: Floats) -> Floats:
    """Normals under a linear map: by its cofactors, so that a flat scale does no harm."""
    cofactors = np.stack([np.cross(turn[i - 2], turn[i - 1]) for i in range(3)])
    moved = normals @ cofactors.T * (-1.0 if np.linalg.det(turn) < 0 else 1.0)
    return np.asarray(moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-30))


def _check_unit(vectors: Floats | None, what: str) -> None:
    if vectors is None:
        return
    length = np.einsum("ij,ij->i", vectors, vectors)
    if np.abs(length - 1.0).max() > _UNIT_TOLERANCE:
        raise BrokenGlbError(f"has {what} that are not of length 1")
