"""A result in other formats than GLB, by trimesh (OBJ, STL, PLY) and usd-core (USDZ).

All keep the GLB's axes and lengths. Roughness and normal maps are in GLB and USDZ only, and STL has
no colours at all.
"""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import trimesh
from numpy.typing import NDArray
from PIL import Image
from trimesh.exchange.obj import export_obj
from trimesh.exchange.ply import export_ply
from trimesh.exchange.stl import export_stl
from trimesh.visual import TextureVisuals
from trimesh.visual.material import SimpleMaterial

from worker_vm.meshes.contents import Contents, Floats, Ints, Part, Texture
from worker_vm.meshes.formats import Format

_FULL = 255.0
_DARK, _SLOPE = 0.0031308, 12.92
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


def write(contents: Contents, wanted: Format, glb: Path) -> Path:
    """Write a format beside the GLB.

    Returns:
        The file: `model.stl`, say, for `model.glb`; an OBJ is a ZIP with its MTL and textures.
    """
    match wanted:
        case Format.GLB:
            path = glb
        case Format.OBJ:
            path = glb.with_name(f"{glb.stem}_obj.zip")
            _write_obj(contents, path, glb.stem)
        case Format.STL:
            path = glb.with_suffix(".stl")
            path.write_bytes(export_stl(_plain(contents.positions, contents.faces)))
        case Format.PLY:
            path = glb.with_suffix(".ply")
            path.write_bytes(_ply(contents))
        case Format.USDZ:
            from worker_vm.meshes.usdz import write_usdz  # noqa: PLC0415  (not on every machine)

            path = glb.with_suffix(".usdz")
            write_usdz(contents, path)
    return path


def _plain(positions: Floats, faces: Ints, **more: Any) -> trimesh.Trimesh:
    return trimesh.Trimesh(positions, faces, process=False, validate=False, **more)


@dataclass(frozen=True)
class _Encoded:
    """Stands for a picture where trimesh writes one: as it is, not encoded a second time."""

    texture: Texture

    @property
    def format(self) -> str:
        return self.texture.media_type.removeprefix("image/")

    def tobytes(self) -> bytes:
        return self.texture.data

    def save(self, fp: IO[bytes], format: str) -> None:  # noqa: A002, ARG002  (Pillow's name)
        fp.write(self.texture.data)


def _write_obj(contents: Contents, path: Path, stem: str) -> None:
    scene = trimesh.Scene()
    for number, part in enumerate(contents.parts):
        scene.add_geometry(_textured(part, contents.textures, f"{stem}_{number}"))
    text, files = export_obj(
        scene, include_normals=True, return_texture=True, mtl_name=f"{stem}.mtl", header=None
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {f"{stem}.obj": text, **files}.items():
            entry = zipfile.ZipInfo(name, _ZIP_TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)


def _textured(part: Part, textures: tuple[Texture, ...], name: str) -> trimesh.Trimesh:
    number = part.surface.base_color_texture
    material = SimpleMaterial(
        name=name,
        image=None if number is None else _Encoded(textures[number]),
        diffuse=np.rint(_srgb(np.array(part.surface.base_color)) * _FULL).astype(np.uint8),
    )
    # All have coordinates, since an OBJ counts them as it counts points. OBJ has v upwards.
    uvs = np.zeros((len(part.positions), 2)) if part.uvs is None else part.uvs
    visual = TextureVisuals(uv=uvs * (1.0, -1.0) + (0.0, 1.0), material=material)
    return _plain(part.positions, part.faces, vertex_normals=part.normals, visual=visual)


def _ply(contents: Contents) -> bytes:
    """Points without seams, each with its colour of the texture."""
    points, place = np.unique(contents.positions + 0.0, axis=0, return_inverse=True)
    place = place.reshape(-1)
    colours = np.vstack([_colours(part, contents.textures) for part in contents.parts])
    times = np.bincount(place)
    mean = np.stack([np.bincount(place, colours[:, band]) / times for band in range(4)], axis=1)
    mesh = _plain(
        points, place[contents.faces], vertex_colors=np.rint(mean * _FULL).astype(np.uint8)
    )
    return bytes(export_ply(mesh, vertex_normal=False))


def _colours(part: Part, textures: tuple[Texture, ...]) -> Floats:
    """The sRGB colour and opacity (n, 4) of each point, in 0…1."""
    factor = np.array(part.surface.base_color)
    number = part.surface.base_color_texture
    if number is None or part.uvs is None:
        return np.tile(_srgb(factor), (len(part.positions), 1))
    with Image.open(io.BytesIO(textures[number].data)) as picture:
        pixels = np.asarray(picture.convert("RGBA"))
    seen = _sample(pixels, part.uvs) / _FULL
    return seen if (factor == 1.0).all() else _srgb(_linear(seen) * factor)


def _sample(pixels: NDArray[np.uint8], uvs: Floats) -> Floats:
    """The picture's colours at coordinates, blended between the four nearest pixels."""
    size = np.array(pixels.shape[1::-1])
    place = np.clip(uvs, 0.0, 1.0) * size - 0.5
    low = np.floor(place).astype(np.int64)
    share = place - low
    total = np.zeros((len(uvs), 4))
    for right in (0, 1):
        for down in (0, 1):
            col, row = np.clip(low + np.array((right, down)), 0, size - 1).T
            weight = np.abs(1 - right - share[:, 0]) * np.abs(1 - down - share[:, 1])
            total += weight[:, None] * pixels[row, col]
    return total


def _srgb(colours: Floats) -> Floats:
    """Linear colours as sRGB (IEC 61966-2-1); opacity stays."""
    steep = 1.055 * colours ** (1 / 2.4) - 0.055
    curve = np.where(colours <= _DARK, _SLOPE * colours, steep)
    return np.concatenate([curve[..., :3], colours[..., 3:]], axis=-1)


def _linear(colours: Floats) -> Floats:
    """And back."""
    steep = ((colours + 0.055) / 1.055) ** 2.4
    curve = np.where(colours <= _SLOPE * _DARK, colours / _SLOPE, steep)
    return np.concatenate([curve[..., :3], colours[..., 3:]], axis=-1)
