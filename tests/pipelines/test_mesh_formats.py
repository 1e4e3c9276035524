"""A result in other formats, read back by readers that share nothing with the writers."""

from pathlib import Path

import numpy as np
import pytest
from format_readers import READERS, Read
from inflate_runs import Recorder
from mesh_makers import apart, change, glb_of, picture, sphere, together
from pxr import Sdf, Usd, UsdValidation
from pydantic import TypeAdapter, ValidationError

from app.artifacts.inspection import contradicts, refused_type
from worker_vm.meshes import formats as mesh_formats
from worker_vm.meshes.exports import write
from worker_vm.meshes.formats import Format, Formats
from worker_vm.meshes.glb_reader import read_glb
from worker_vm.meshes.handover import hand_over
from worker_vm.meshes.topology import analyse
from worker_vm.pipelines.base import PipelineError

EXTRA = [Format.OBJ, Format.STL, Format.PLY, Format.USDZ]
TEXTURED = [Format.OBJ, Format.USDZ]


def _used(points: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A part of a mesh with only its own points."""
    kept, renamed = np.unique(faces, return_inverse=True)
    return points[kept], renamed.reshape(faces.shape)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Recorder:
    """A ball with a seam, twice as high as wide, handed over in every format."""
    points, faces = sphere(12)
    half = points[faces].mean(axis=1)[:, 0] < 0
    mesh = together(*(_used(points * (1, 2, 1), faces[side]) for side in (half, ~half)))
    recorder = Recorder()
    path = glb_of(tmp_path_factory.mktemp("formats") / "model.glb", mesh)
    hand_over(path, recorder, list(Format))
    return recorder


@pytest.fixture
def read(results: Recorder, wanted: Format) -> Read:
    (path,) = [
        path
        for _, path, media_type in results.artifacts.values()
        if media_type == mesh_formats.MEDIA_TYPES[wanted]
    ]
    return READERS[wanted](path)


@pytest.mark.parametrize("wanted", EXTRA)
def test_same_shape(read: Read) -> None:
    """Every format has the GLB's size, its axes and its triangles, and is closed."""
    assert read.points.min(axis=0) == pytest.approx([-0.5, -1.0, -0.5], abs=1e-5)
    assert read.points.max(axis=0) == pytest.approx([0.5, 1.0, 0.5], abs=1e-5)
    assert len(read.faces) == 4 * 12 * 11
    # Formats that write numbers as text keep eight digits.
    found = analyse(np.round(read.points, 6), read.faces.astype(np.int64))
    assert found.watertight
    assert (found.bodies, found.inverted_bodies, found.turned_edges) == (1, 0, 0)


@pytest.mark.parametrize("wanted", TEXTURED)
def test_texture(read: Read) -> None:
    """The texture is there byte by byte, and lies where it does in the GLB: red is left."""
    assert read.texture_bytes == picture()
    side = read.texture.width
    columns = np.clip(read.uvs[:, 0] * side, 0, side - 1).astype(int)
    rows = np.clip((1 - read.uvs[:, 1]) * side, 0, side - 1).astype(int)
    colours = np.asarray(read.texture)[rows, columns]
    left, right = read.points[:, 0] < -0.05, read.points[:, 0] > 0.05
    assert (colours[left] == (220, 20, 10)).all()
    assert (colours[right] == (10, 30, 200)).all()


@pytest.mark.parametrize("wanted", TEXTURED)
def test_texture_is_upright(read: Read) -> None:
    """What is up in the picture is up on the ball."""
    upper = read.points[:, 1] > 0.2
    assert (read.uvs[upper, 1] > 0.5).all()
    assert (read.uvs[read.points[:, 1] < -0.2, 1] < 0.5).all()


@pytest.mark.parametrize("wanted", TEXTURED)
def test_normals(read: Read) -> None:
    """Normals have length 1 and point outwards."""
    assert np.linalg.norm(read.normals, axis=1) == pytest.approx(1.0, abs=1e-4)
    assert (np.einsum("ij,ij->i", read.normals, read.points) > 0).all()


@pytest.mark.parametrize("wanted", [Format.PLY])
def test_colours_of_points(read: Read) -> None:
    """PLY has no seam, and at each point the texture's colour."""
    assert len(read.points) == len(sphere(12)[0])
    left, right = read.points[:, 0] < -0.05, read.points[:, 0] > 0.05
    assert (read.colours[left] == (220, 20, 10, 255)).all()
    assert (read.colours[right] == (10, 30, 200, 255)).all()


@pytest.mark.parametrize("wanted", [Format.USDZ])
def test_usd_knows_axes_lengths_and_material(read: Read) -> None:
    """Up is +Y, a unit is a metre, and roughness and metallic are the GLB's."""
    assert "upAxis=Y" in read.told["stage"]
    assert "metersPerUnit=1" in read.told["stage"]
    assert read.told["roughness"] == 0.5
    assert read.told["metallic"] == 0.0
    assert read.told["textured"] is True


def _usd_faults(path: Path) -> list[str]:
    """What USD's own validators say of a package."""
    registry = UsdValidation.ValidationRegistry()
    context = UsdValidation.ValidationContext(registry.GetOrLoadAllValidators())
    return [fault.GetMessage() for fault in context.Validate(Usd.Stage.Open(str(path)))]


def test_usd_finds_no_fault(results: Recorder) -> None:
    """USD's own validators have nothing to say."""
    assert _usd_faults(results.artifacts["model.usdz"][1]) == []


@pytest.mark.parametrize("wanted", list(Format))
def test_the_app_takes_them(results: Recorder, wanted: Format) -> None:
    """Type and first bytes of each file are accepted by the app."""
    (kind, path, media_type) = next(
        item for item in results.artifacts.values() if item[2] == mesh_formats.MEDIA_TYPES[wanted]
    )
    assert refused_type(kind, media_type) is None
    data = path.read_bytes()
    assert contradicts(media_type, data, is_whole=True) is None
    assert contradicts(media_type, data[:2000], is_whole=False) is None


def test_normal_map_and_metal_reach_usd(tmp_path: Path) -> None:
    """A normal map and a metallic-roughness texture are connected, untouched by gamma."""

    def add_maps(document: dict, _: bytearray) -> None:
        material = document["materials"][0]
        material["normalTexture"] = {"index": 1}
        material["pbrMetallicRoughness"]["metallicRoughnessTexture"] = {"index": 2}
        document["textures"] *= 3

    path = glb_of(tmp_path / "model.glb", apart(sphere(4)))
    change(path, add_maps)
    usdz = write(read_glb(path), Format.USDZ, path)
    layer = Sdf.Layer.FindOrOpen(str(usdz))
    shader = layer.GetPrimAtPath("/Model/Materials/Material_0/Surface")
    sources = {
        name.removeprefix("inputs:"): str(attribute.connectionPathList.explicitItems[0])
        for name, attribute in shader.attributes.items()
        if attribute.connectionPathList.explicitItems
    }
    folder = "/Model/Materials/Material_0/"
    assert sources == {
        "diffuseColor": f"{folder}Texture_0_sRGB.outputs:rgb",
        "normal": f"{folder}Texture_1_raw.outputs:rgb",
        "roughness": f"{folder}Texture_2_raw.outputs:g",
        "metallic": f"{folder}Texture_2_raw.outputs:b",
    }
    assert _usd_faults(usdz) == []


@pytest.mark.parametrize("wanted", EXTRA)
def test_without_a_texture(tmp_path: Path, wanted: Format) -> None:
    """A mesh of one colour, without texture coordinates or normals, can be written too."""

    def strip(document: dict, _: bytearray) -> None:
        primitive = document["meshes"][0]["primitives"][0]
        primitive["attributes"] = {"POSITION": 0}
        document["materials"][0]["pbrMetallicRoughness"] = {"baseColorFactor": [1.0, 0.2, 0, 1]}

    path = glb_of(tmp_path / "model.glb", sphere(4))
    change(path, strip)
    written = write(read_glb(path), wanted, path)
    data = written.read_bytes()
    assert contradicts(mesh_formats.MEDIA_TYPES[wanted], data, is_whole=True) is None
    if wanted == Format.PLY:
        colours = READERS[wanted](written).colours
        assert (colours == (255, 124, 0, 255)).all()  # 0.2 linear is 124 in sRGB


def test_the_same_bytes_again(tmp_path: Path) -> None:
    """OBJ, STL and PLY of the same GLB are the same, byte by byte."""
    path = glb_of(tmp_path / "model.glb", sphere(6))
    for wanted in (Format.OBJ, Format.STL, Format.PLY):
        first = write(read_glb(path), wanted, path).read_bytes()
        assert write(read_glb(path), wanted, path).read_bytes() == first


@pytest.mark.parametrize(
    "given", [[], ["glb", "glb"], ["fbx"], ["GLB"], "glb", [None], None, {"glb": 1}]
)
def test_bad_formats(given: object) -> None:
    """The worker's side takes no other formats than the catalog's schema does."""
    with pytest.raises(ValidationError):
        TypeAdapter(Formats).validate_python(given)


def test_format_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where usd-core is missing a job that wants USDZ fails for good, before any work."""
    monkeypatch.setattr(mesh_formats, "_LIBRARIES", {Format.USDZ: ("no_such_module", "usd-core")})
    with pytest.raises(PipelineError) as caught:
        TypeAdapter(Formats).validate_python(["glb", "usdz"])
    assert caught.value.code == "FORMAT_UNAVAILABLE"
    assert caught.value.permanent
    assert "'usd-core' is not installed" in caught.value.message
    assert TypeAdapter(Formats).validate_python(["glb", "obj"]) == (Format.GLB, Format.OBJ)
