"""The part of a glTF 2.0 file's JSON that is read here; types and ranges are checked by pydantic.

Specification: https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Index = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class _Object(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, extra="ignore", frozen=True, strict=True, allow_inf_nan=False
    )


class Asset(_Object):
    """Which version of glTF it is."""

    version: Literal["2.0"]


class Buffer(_Object):
    """Binary data; in a GLB the binary chunk."""

    byte_length: int = Field(ge=1)
    uri: str | None = None


class BufferView(_Object):
    """A range of a buffer."""

    buffer: Index
    byte_offset: Index = 0
    byte_length: int = Field(ge=1)
    byte_stride: int | None = Field(default=None, ge=4, le=252, multiple_of=4)


class Accessor(_Object):
    """A typed array in a buffer view."""

    buffer_view: Index | None = None
    byte_offset: Index = 0
    component_type: Literal[5120, 5121, 5122, 5123, 5125, 5126]
    normalized: bool = False
    count: int = Field(ge=1)
    type: Literal["SCALAR", "VEC2", "VEC3", "VEC4", "MAT2", "MAT3", "MAT4"]
    min: list[float] | None = None
    max: list[float] | None = None
    sparse: object = None


class Primitive(_Object):
    """Triangles with one material."""

    attributes: dict[str, Index]
    indices: Index | None = None
    material: Index | None = None
    mode: int = 4


class MeshObject(_Object):
    """Primitives."""

    primitives: list[Primitive] = Field(min_length=1)


class Node(_Object):
    """A place in the scene."""

    children: list[Index] = []
    mesh: Index | None = None
    matrix: list[float] | None = Field(default=None, min_length=16, max_length=16)
    translation: list[float] = Field(default=[0.0, 0.0, 0.0], min_length=3, max_length=3)
    rotation: list[float] = Field(default=[0.0, 0.0, 0.0, 1.0], min_length=4, max_length=4)
    scale: list[float] = Field(default=[1.0, 1.0, 1.0], min_length=3, max_length=3)


class SceneObject(_Object):
    """The nodes at the top."""

    nodes: list[Index] = []


class TextureInfo(_Object):
    """A texture that a material uses."""

    index: Index
    tex_coord: Index = 0


class Metallic(_Object):
    """The metallic-roughness model."""

    base_color_factor: tuple[Share, Share, Share, Share] = (1.0, 1.0, 1.0, 1.0)
    base_color_texture: TextureInfo | None = None
    metallic_factor: Share = 1.0
    roughness_factor: Share = 1.0
    metallic_roughness_texture: TextureInfo | None = None


class MaterialObject(_Object):
    """How a surface looks."""

    pbr_metallic_roughness: Metallic = Metallic()
    normal_texture: TextureInfo | None = None
    occlusion_texture: TextureInfo | None = None
    emissive_texture: TextureInfo | None = None
    double_sided: bool = False


class TextureObject(_Object):
    """A picture and how it is sampled."""

    source: Index
    sampler: Index | None = None


class Image(_Object):
    """A picture in a buffer view."""

    uri: str | None = None
    mime_type: Literal["image/png", "image/jpeg"] | None = None
    buffer_view: Index | None = None


class Document(_Object):
    """The whole JSON chunk."""

    asset: Asset
    extensions_required: list[str] = []
    scene: Index = 0
    scenes: list[SceneObject] = Field(min_length=1)
    nodes: list[Node] = Field(min_length=1)
    meshes: list[MeshObject] = Field(min_length=1)
    accessors: list[Accessor] = Field(min_length=1)
    buffer_views: list[BufferView] = Field(min_length=1)
    buffers: list[Buffer] = Field(min_length=1, max_length=1)
    materials: list[MaterialObject] = []
    textures: list[TextureObject] = []
    samplers: list[dict[str, object]] = []
    images: list[Image] = []
