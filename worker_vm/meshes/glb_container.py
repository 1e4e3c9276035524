"""The container of a GLB and the arrays in it, each access within bounds."""

import struct
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from worker_vm.meshes.contents import BrokenGlbError
from worker_vm.meshes.gltf_json import Accessor, BufferView, Document

_DTYPES = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
_FLOAT = 5126
_HEADER = 12
_CHUNK = 8
_GLTF_2 = 2

T = TypeVar("T")


def pick(items: list[T], index: int | None, what: str) -> T:
    """One of a file's objects by its number.

    Raises:
        BrokenGlbError: there is none with that number.
    """
    if index is None or index >= len(items):
        raise BrokenGlbError(f"names {what} {index}, of which it has {len(items)}")
    return items[index]


class Container:
    """A GLB taken apart: its JSON and its binary chunk.

    Args:
        path: the file.

    Raises:
        BrokenGlbError: it is no GLB, or its JSON isn't glTF.
    """

    def __init__(self, path: Path) -> None:
        text, self._binary = _chunks(path.read_bytes())
        try:
            self.document = Document.model_validate_json(bytes(text))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = "/".join(str(part) for part in first["loc"]) or "its JSON"
            raise BrokenGlbError(f"is no glTF 2.0: {where}: {first['msg']}") from error
        buffer = self.document.buffers[0]
        if buffer.uri is not None:
            raise BrokenGlbError("has its buffer in another file")
        if not 0 <= len(self._binary) - buffer.byte_length < 4:  # noqa: PLR2004  (padding)
            raise BrokenGlbError(
                f"has a buffer of {buffer.byte_length} bytes in a chunk of {len(self._binary)}"
            )
        self._length = buffer.byte_length
        self._arrays: dict[int, NDArray[Any]] = {}

    def view(self, index: int | None) -> memoryview:
        """The bytes of a buffer view."""
        view = self._view(index)
        return self._binary[view.byte_offset : view.byte_offset + view.byte_length]

    def _view(self, index: int | None) -> BufferView:
        view = pick(self.document.buffer_views, index, "buffer view")
        if view.buffer != 0 or view.byte_offset + view.byte_length > self._length:
            raise BrokenGlbError(f"has a buffer view ({index}) that ends outside its buffer")
        return view

    def array(self, index: int | None) -> NDArray[Any]:
        """The values of an accessor (count, width), not yet normalised.

        Raises:
            BrokenGlbError: it lies outside its view, is not aligned, holds numbers that are not
                finite, or its `min` and `max` are not those of its values.
        """
        accessor = pick(self.document.accessors, index, "accessor")
        assert index is not None
        if index not in self._arrays:
            self._arrays[index] = self._read(accessor, f"has an accessor ({index}) that")
        return self._arrays[index]

    def _read(self, accessor: Accessor, whose: str) -> NDArray[Any]:
        if accessor.buffer_view is None or accessor.sparse is not None:
            raise BrokenGlbError(f"{whose} is sparse or empty, which not every reader can show")
        view = self._view(accessor.buffer_view)
        dtype = np.dtype(_DTYPES[accessor.component_type])
        width = _WIDTHS[accessor.type]
        element = width * dtype.itemsize
        stride = view.byte_stride or element
        end = accessor.byte_offset + (accessor.count - 1) * stride + element
        if end > view.byte_length or stride < element:
            raise BrokenGlbError(f"{whose} ends outside its buffer view")
        start = view.byte_offset + accessor.byte_offset
        if start % dtype.itemsize or stride % dtype.itemsize:
            raise BrokenGlbError(f"{whose} is not aligned to its numbers' size")
        values: NDArray[Any] = np.ndarray(
            (accessor.count, width), dtype, self._binary, start, (stride, dtype.itemsize)
        )
        if accessor.component_type == _FLOAT and not np.isfinite(values).all():
            raise BrokenGlbError(f"{whose} holds numbers that are not finite")
        for name, told, true in (
            ("min", accessor.min, values.min(axis=0)),
            ("max", accessor.max, values.max(axis=0)),
        ):
            if told is not None and not _same(told, true):
                raise BrokenGlbError(f"{whose} has another {name} than its values")
        return values


def _same(told: list[float], true: NDArray[Any]) -> bool:
    """Whether numbers of the JSON are those of the data; floats in their own precision."""
    with np.errstate(over="ignore"):
        wanted = np.array(told)
        return np.array_equal(wanted.astype("<f4") if true.dtype.kind == "f" else wanted, true)


def _chunks(data: bytes) -> tuple[memoryview, memoryview]:
    """The JSON and the binary chunk."""
    whole = memoryview(data)
    if len(data) < _HEADER + _CHUNK or data[:4] != b"glTF":
        raise BrokenGlbError("does not begin as a GLB does")
    version, length = struct.unpack_from("<II", data, 4)
    if version != _GLTF_2:
        raise BrokenGlbError(f"is a GLB of version {version}, not 2")
    if length != len(data):
        raise BrokenGlbError(f"says that it has {length} bytes and has {len(data)}")
    chunks: list[tuple[bytes, memoryview]] = []
    at = _HEADER
    while at < length:
        if at + _CHUNK > length:
            raise BrokenGlbError("ends within the header of a chunk")
        size, kind = struct.unpack_from("<I4s", data, at)
        at += _CHUNK
        if size % 4 or at + size > length:
            raise BrokenGlbError("has a chunk that is not aligned or ends outside the file")
        chunks.append((kind, whole[at : at + size]))
        at += size
    if [kind for kind, _ in chunks[:2]] != [b"JSON", b"BIN\0"]:
        raise BrokenGlbError("has no JSON chunk followed by a binary one")
    return chunks[0][1], chunks[1][1]
