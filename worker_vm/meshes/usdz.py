"""Write a USDZ package: one file for AR viewers, with USD's own preview material.

Specifications: https://openusd.org/release/spec_usdz.html, spec_usdpreviewsurface.html
"""

import os
import tempfile
from pathlib import Path

import numpy as np
from pxr import Gf, Sdf, Usd, UsdGeom, UsdShade, Vt, Work

from worker_vm.meshes.contents import Contents, Part, Surface

Work.SetConcurrencyLimit(int(os.environ.get("WORKER_THREADS", "1")))

_ROOT = "/Model"
_SUFFIXES = {"image/png": "png", "image/jpeg": "jpg"}


def write_usdz(contents: Contents, path: Path) -> None:
    """Write all parts as meshes of one model, in metres, +Y up."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="usdz-") as folder:
        pictures = []
        for number, texture in enumerate(contents.textures):
            name = f"texture_{number}.{_SUFFIXES[texture.media_type]}"
            (Path(folder) / name).write_bytes(texture.data)
            pictures.append(name)
        layer = Path(folder) / "model.usdc"
        _write_stage(contents, layer, pictures)
        package = Sdf.ZipFileWriter.CreateNew(str(path))
        for name in (layer.name, *pictures):  # the layer that a viewer opens comes first
            package.AddFile(str(Path(folder) / name), name)
        package.Save()


def _write_stage(contents: Contents, layer: Path, pictures: list[str]) -> None:
    stage = Usd.Stage.CreateNew(str(layer))
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    root = UsdGeom.Xform.Define(stage, _ROOT)
    Usd.ModelAPI(root).SetKind("component")
    stage.SetDefaultPrim(root.GetPrim())
    made: dict[Surface, UsdShade.Material] = {}
    for number, part in enumerate(contents.parts):
        mesh = _mesh(stage, f"{_ROOT}/Part_{number}", part)
        if part.surface not in made:
            place = f"{_ROOT}/Materials/Material_{len(made)}"
            made[part.surface] = _material(stage, place, part.surface, pictures)
        UsdShade.MaterialBindingAPI.Apply(mesh.GetPrim()).Bind(made[part.surface])
    stage.GetRootLayer().Save()


def _mesh(stage: Usd.Stage, place: str, part: Part) -> UsdGeom.Mesh:
    mesh = UsdGeom.Mesh.Define(stage, place)
    points = part.positions.astype(np.float32)
    mesh.CreatePointsAttr(Vt.Vec3fArray.FromNumpy(points))
    mesh.CreateFaceVertexCountsAttr(Vt.IntArray(len(part.faces), 3))
    mesh.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(part.faces.astype(np.int32).ravel()))
    mesh.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    mesh.CreateDoubleSidedAttr(part.surface.double_sided)
    mesh.CreateExtentAttr(
        Vt.Vec3fArray.FromNumpy(np.stack([points.min(axis=0), points.max(axis=0)]))
    )
    if part.normals is not None:
        mesh.CreateNormalsAttr(Vt.Vec3fArray.FromNumpy(part.normals.astype(np.float32)))
        mesh.SetNormalsInterpolation(UsdGeom.Tokens.vertex)
    if part.uvs is not None:
        primvars = UsdGeom.PrimvarsAPI(mesh)
        kind = Sdf.ValueTypeNames.TexCoord2fArray
        coordinates = primvars.CreatePrimvar("st", kind, UsdGeom.Tokens.vertex)
        upwards = part.uvs * (1.0, -1.0) + (0.0, 1.0)
        coordinates.Set(Vt.Vec2fArray.FromNumpy(upwards.astype(np.float32)))
    return mesh


def _material(
    stage: Usd.Stage, place: str, surface: Surface, pictures: list[str]
) -> UsdShade.Material:
    material = UsdShade.Material.Define(stage, place)
    shader = UsdShade.Shader.Define(stage, f"{place}/Surface")
    shader.CreateIdAttr("UsdPreviewSurface")
    material.CreateSurfaceOutput().ConnectToSource(shader.ConnectableAPI(), "surface")
    reader = UsdShade.Shader.Define(stage, f"{place}/Coordinates")
    reader.CreateIdAttr("UsdPrimvarReader_float2")
    reader.CreateInput("varname", Sdf.ValueTypeNames.String).Set("st")
    reader.CreateOutput("result", Sdf.ValueTypeNames.Float2)

    def connect(
        inputs: dict[str, str], kind: Sdf.ValueTypeName, number: int, space: str, scale: Gf.Vec4f
    ) -> UsdShade.Shader:
        """Feed inputs of the surface from bands of a picture."""
        sampler = UsdShade.Shader.Define(stage, f"{place}/Texture_{number}_{space}")
        sampler.CreateIdAttr("UsdUVTexture")
        sampler.CreateInput("file", Sdf.ValueTypeNames.Asset).Set(pictures[number])
        sampler.CreateInput("sourceColorSpace", Sdf.ValueTypeNames.Token).Set(space)
        sampler.CreateInput("scale", Sdf.ValueTypeNames.Float4).Set(scale)
        for axis in ("wrapS", "wrapT"):
            sampler.CreateInput(axis, Sdf.ValueTypeNames.Token).Set("clamp")
        sampler.CreateInput("st", Sdf.ValueTypeNames.Float2).ConnectToSource(
            reader.ConnectableAPI(), "result"
        )
        for name, band in inputs.items():
            sampler.CreateOutput(band, kind)
            shader.CreateInput(name, kind).ConnectToSource(sampler.ConnectableAPI(), band)
        return sampler

    number = surface.base_color_texture
    if number is None:
        colour = shader.CreateInput("diffuseColor", Sdf.ValueTypeNames.Color3f)
        colour.Set(Gf.Vec3f(*surface.base_color[:3]))
    else:
        scale = Gf.Vec4f(*surface.base_color)
        connect({"diffuseColor": "rgb"}, Sdf.ValueTypeNames.Color3f, number, "sRGB", scale)
    number = surface.metallic_roughness_texture
    if number is None:
        shader.CreateInput("roughness", Sdf.ValueTypeNames.Float).Set(surface.roughness)
        shader.CreateInput("metallic", Sdf.ValueTypeNames.Float).Set(surface.metallic)
    else:
        scale = Gf.Vec4f(1.0, surface.roughness, surface.metallic, 1.0)
        bands = {"roughness": "g", "metallic": "b"}
        connect(bands, Sdf.ValueTypeNames.Float, number, "raw", scale)
    if surface.normal_texture is not None:
        scale, kind = Gf.Vec4f(2.0, 2.0, 2.0, 1.0), Sdf.ValueTypeNames.Normal3f
        sampler = connect({"normal": "rgb"}, kind, surface.normal_texture, "raw", scale)
        sampler.CreateInput("bias", Sdf.ValueTypeNames.Float4).Set(Gf.Vec4f(-1.0, -1.0, -1.0, 0.0))
    return material
