"""GLBs that are broken in one way each, and what the worker and Khronos say of them."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mesh_makers import change, glb_of, picture, sphere

from tests.support.gltf_validator import gltf_errors
from worker_vm.meshes.contents import BrokenGlbError
from worker_vm.meshes.glb_reader import read_glb

Alter = Callable[[dict[str, Any], bytearray], object]


@pytest.fixture
def glb(tmp_path: Path) -> Path:
    return glb_of(tmp_path / "model.glb", sphere(6))


def _put(at: int, number: str, value: float) -> Alter:
    """Overwrite a number of an accessor: `at` counts numbers of the first accessor."""
    return lambda _, binary: struct.pack_into(number, binary, at * struct.calcsize(number), value)


def _set(*keys: Any) -> Alter:
    """Set a value in the JSON: the keys that lead there, then the value."""

    def run(document: Any, _: bytearray) -> None:
        *way, last, value = keys
        for key in way:
            document = document[key]
        document[last] = value

    return run


def _drop(*keys: Any) -> Alter:
    def run(document: Any, _: bytearray) -> None:
        *way, last = keys
        for key in way:
            document = document[key]
        del document[last]

    return run


def _index(value: int) -> Alter:
    """Overwrite the first index."""

    def run(document: dict[str, Any], binary: bytearray) -> None:
        view = document["bufferViews"][document["accessors"][3]["bufferView"]]
        struct.pack_into("<H", binary, view["byteOffset"], value)

    return run


def _spoil_picture(document: dict[str, Any], binary: bytearray) -> None:
    view = document["bufferViews"][document["images"][0]["bufferView"]]
    start = view["byteOffset"]
    binary[start + 60 : start + view["byteLength"]] = bytes(view["byteLength"] - 60)


BROKEN: dict[str, tuple[Alter, str]] = {
    "nan": (_put(4, "<f", float("nan")), "not finite"),
    "infinity": (_put(4, "<f", float("inf")), "not finite"),
    "other extents than told": (_put(4, "<f", 9.0), "another max"),
    "no extents": (_drop("accessors", 0, "max"), "without min and max"),
    "index beyond the points": (_index(9999), "names point 9999, of which it has 62"),
    "accessor beyond its view": (_set("accessors", 2, "count", 63), "ends outside its buffer"),
    "accessor off its alignment": (_set("accessors", 1, "byteOffset", 2), "outside"),
    "view beyond the buffer": (_set("bufferViews", 4, "byteLength", 10**6), "ends outside"),
    "other numbers of values": (_set("accessors", 2, "count", 61), "more or fewer TEXCOORD_0"),
    "no such accessor": (_set("meshes", 0, "primitives", 0, "indices", 9), "names accessor 9"),
    "no such material": (_set("meshes", 0, "primitives", 0, "material", 1), "names material 1"),
    "no such node": (_set("scenes", 0, "nodes", [3]), "names node 3"),
    "no such image": (_set("textures", 0, "source", 1), "names image 1"),
    "no such sampler": (_set("textures", 0, "sampler", 7), "names sampler 7"),
    "a node in itself": (_set("nodes", 0, "children", [0]), "reaches node 0 twice"),
    "no triangles": (_drop("nodes", 0, "mesh"), "shows no triangle"),
    "two indices left over": (_set("accessors", 3, "count", 8), "8 indices"),
    "positions of another type": (_set("accessors", 0, "type", "VEC2"), ""),
    "a picture that is broken": (_spoil_picture, "cannot be decoded"),
    "a picture of another type": (_set("images", 0, "mimeType", "image/jpeg"), "is image/png"),
    "a picture elsewhere": (_set("images", 0, "uri", "texture.png"), "in another file"),
    "an unknown version": (_set("asset", "version", "1.0"), "asset/version"),
    "no version": (_drop("asset", "version"), "asset/version"),
    "a number that is text": (_set("accessors", 0, "count", "62"), "accessors/0/count"),
    "a number below zero": (_set("bufferViews", 0, "byteOffset", -4), "bufferViews/0/byteOffset"),
    "an extension that is needed": (
        _set("extensionsRequired", ["KHR_draco_mesh_compression"]),
        "needs the extension KHR_draco",
    ),
    "points": (_set("meshes", 0, "primitives", 0, "mode", 0), "no list of triangles"),
}
# No errors of the format, but nothing that everybody could show.
_ALLOWED_BY_KHRONOS = {
    *("no triangles", "points", "two indices left over", "a picture that is broken"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_each_fault_is_found(glb: Path, fault: str) -> None:
    """A file with a fault is refused with a sentence that names it."""
    alter, words = BROKEN[fault]
    read_glb(glb)
    change(glb, alter)
    with pytest.raises(BrokenGlbError) as caught:
        read_glb(glb)
    assert words in caught.value.problem


def test_normals_of_another_length(glb: Path) -> None:
    """Normals have length 1."""

    def lengthen(document: dict[str, Any], binary: bytearray) -> None:
        start = document["bufferViews"][1]["byteOffset"]
        normal = struct.unpack_from("<3f", binary, start)
        struct.pack_into("<3f", binary, start, *(2 * side for side in normal))

    change(glb, lengthen)
    with pytest.raises(BrokenGlbError, match="not of length 1"):
        read_glb(glb)


def test_off_its_alignment(glb: Path) -> None:
    """Numbers of four bytes begin at a multiple of four."""

    def shift(document: dict[str, Any], _: bytearray) -> None:
        document["accessors"][1] |= {"byteOffset": 2, "count": 61}

    change(glb, shift)
    with pytest.raises(BrokenGlbError, match="not aligned"):
        read_glb(glb)


def test_khronos_agrees(glb: Path, tmp_path: Path) -> None:
    """What is refused here is refused by Khronos' validator, too: we are not stricter by error."""
    assert gltf_errors(glb) == []
    accepted = set()
    for fault, (alter, _) in BROKEN.items():
        again = glb_of(tmp_path / "again.glb", sphere(6))
        change(again, alter)
        if not gltf_errors(again):
            accepted.add(fault)
    assert accepted == _ALLOWED_BY_KHRONOS


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "does not begin"),
        (b"glTF", "does not begin"),
        (b"\x89PNG" + bytes(40), "does not begin"),
        (struct.pack("<4sII", b"glTF", 1, 40) + bytes(28), "version 1"),
        (struct.pack("<4sII", b"glTF", 2, 99) + bytes(28), "says that it has 99 bytes"),
        (struct.pack("<4sIII4s", b"glTF", 2, 24, 80, b"JSON") + bytes(4), "ends outside the file"),
        (struct.pack("<4sIII4s", b"glTF", 2, 24, 4, b"JSON") + b"{}  ", "no JSON chunk followed"),
        (struct.pack("<4sIII4s", b"glTF", 2, 24, 0, b"JSON") + bytes(4), "header of a chunk"),
    ],
)
def test_no_container(tmp_path: Path, data: bytes, words: str) -> None:
    """Bytes that are no GLB are refused by what is wrong with them."""
    path = tmp_path / "model.glb"
    path.write_bytes(data)
    with pytest.raises(BrokenGlbError, match=words):
        read_glb(path)


@settings(max_examples=150, deadline=None, suppress_health_check=[*HealthCheck])
@given(data=st.data())
def test_any_damage_is_refused_or_harmless(tmp_path_factory: Any, data: st.DataObject) -> None:
    """Whatever bytes are overwritten or cut off, the file is read or refused; nothing else."""
    path = tmp_path_factory.mktemp("damage") / "model.glb"
    glb_of(path, sphere(3), image=picture(8))
    whole = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(whole[: data.draw(st.integers(len(whole) // 2, len(whole)))]))
    try:
        found = read_glb(path)
    except BrokenGlbError:
        return
    assert np.isfinite(found.positions).all()
    assert found.faces.max() < len(found.positions)
