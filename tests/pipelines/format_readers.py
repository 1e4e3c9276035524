"""Readers of the extra formats that share nothing with what writes them.

OBJ, STL and PLY are read by hand, from their specifications; USDZ by tinyusdz.
"""

import io
import struct
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tinyusdz
from PIL import Image


@dataclass
class Read:
    """What a reader has found."""

    points: np.ndarray
    faces: np.ndarray
    uvs: np.ndarray | None = None
    """(n, 2) v upwards, one for each point"""
    normals: np.ndarray | None = None
    colours: np.ndarray | None = None
    """(n, 4) 0…255"""
    texture: Image.Image | None = None
    texture_bytes: bytes = b""
    told: dict[str, object] = field(default_factory=dict)


def read_obj(path: Path) -> Read:
    """A ZIP with one OBJ, its MTL and the texture that this names."""
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        files = {name: archive.read(name) for name in archive.namelist()}
    (name,) = [name for name in files if name.endswith(".obj")]
    rows: dict[str, list[list[str]]] = {}
    for line in files[name].decode().splitlines():
        if line and not line.startswith("#"):
            key, *words = line.split()
            rows.setdefault(key, []).append(words)
    corners = np.array([[corner.split("/") for corner in face] for face in rows["f"]]).astype(int)
    assert (corners == corners[:, :, :1]).all()  # the same number for point, texture and normal
    ((library,),) = rows["mtllib"]
    material = dict(
        line.split(maxsplit=1) for line in files[library].decode().splitlines() if " " in line
    )
    assert [material["newmtl"]] in rows["usemtl"]
    picture = files[material["map_Kd"]]
    return Read(
        points=np.array(rows["v"], float),
        faces=corners[:, :, 0] - 1,
        uvs=np.array(rows["vt"], float),
        normals=np.array(rows["vn"], float),
        texture=Image.open(io.BytesIO(picture)).convert("RGB"),
        texture_bytes=picture,
        told={"material": material},
    )


def read_stl(path: Path) -> Read:
    """A binary STL; points are joined where they are the same."""
    data = path.read_bytes()
    count = struct.unpack_from("<I", data, 80)[0]
    assert len(data) == 84 + 50 * count
    kind = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("rest", "<u2")])
    triangles = np.frombuffer(data, kind, count, 84)
    points, place = np.unique(triangles["corners"].reshape(-1, 3), axis=0, return_inverse=True)
    return Read(points.astype(float), place.reshape(-1, 3), normals=triangles["normal"])


def read_ply(path: Path) -> Read:
    """A binary PLY with a colour for each point."""
    head, body = path.read_bytes().split(b"end_header\n", 1)
    lines = head.decode().splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    counts = {words[1]: int(words[2]) for words in map(str.split, lines) if words[0] == "element"}
    properties = [words[1:] for words in map(str.split, lines) if words[0] == "property"]
    assert [name for *_, name in properties if name != "vertex_indices"] == [
        *"xyz", "red", "green", "blue", "alpha",
    ]  # fmt: skip
    point = np.dtype([("place", "<f4", 3), ("colour", "u1", 4)])
    face = np.dtype([("count", "u1"), ("corners", "<i4", 3)])
    points = np.frombuffer(body, point, counts["vertex"])
    faces = np.frombuffer(body, face, counts["face"], points.nbytes)
    assert len(body) == points.nbytes + faces.nbytes
    assert (faces["count"] == 3).all()
    return Read(points["place"].astype(float), faces["corners"], colours=points["colour"])


def read_usdz(path: Path) -> Read:
    """A USDZ: the package by its specification, what is in it by tinyusdz."""
    data = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            assert entry.compress_type == zipfile.ZIP_STORED
            name, extra = struct.unpack_from("<HH", data, entry.header_offset + 26)
            assert (entry.header_offset + 30 + name + extra) % 64 == 0
        names = archive.namelist()
        picture = archive.read(names[1])
    assert names[0].endswith(".usdc")
    stage = tinyusdz.load(str(path))
    (mesh,) = [prim for prim in tinyusdz.traverse(stage) if prim.type_name == "Mesh"]

    def values(name: str) -> np.ndarray:
        return np.array(mesh.get_attribute(name).value)

    assert (values("faceVertexCounts") == 3).all()
    scene = tinyusdz.tydra.convert_to_render_scene(stage)
    (material,) = [found.preview_surface for found in scene.materials()]
    return Read(
        points=values("points").astype(float),
        faces=values("faceVertexIndices").reshape(-1, 3),
        uvs=values("primvars:st").astype(float),
        normals=values("normals").astype(float),
        texture=Image.open(io.BytesIO(picture)).convert("RGB"),
        texture_bytes=picture,
        told={
            "stage": str(stage),
            "roughness": material["roughness"]["value"],
            "metallic": material["metallic"]["value"],
            "textured": material["diffuse_color"]["texture_id"] >= 0,
        },
    )


READERS = {"obj": read_obj, "stl": read_stl, "ply": read_ply, "usdz": read_usdz}
