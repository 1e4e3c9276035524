"""What a run of `sf3d` promises, with a stand-in for upstream or, by `-m sf3d`, with upstream."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from drawn_pictures import ball, encode, figure, scene
from inflate_runs import Outcome
from PIL import Image
from sf3d_runs import Done, Installation, installed

from contract.kinds import ArtifactKind
from tests.support.gltf_validator import gltf_errors, validate_gltf
from worker_vm.control import RunControl
from worker_vm.host_process import HostCrashedError

REAL = (
    "SF3D_PYTHON", "SF3D_MODEL", "SF3D_LICENCE_ACCEPTED", "SF3D_USE_CPU", "HF_HOME", "HF_TOKEN",
    "HF_HUB_OFFLINE",
)  # fmt: skip
"""Settings of a real installation, taken from the environment of the tests."""


@pytest.fixture(scope="module", params=["stand-in", pytest.param("real", marks=pytest.mark.sf3d)])
def sf3d(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    settings = (
        request.getfixturevalue("stand_in_settings")
        if request.param == "stand-in"
        else {name: os.environ[name] for name in REAL if name in os.environ}
    )
    with installed(tmp_path_factory.mktemp("runs"), **settings) as installation:
        yield installation


@pytest.fixture(scope="module")
def done(sf3d: Installation) -> Done:
    return sf3d.run(encode(scene(ball)), texture_resolution=512, seed=7)


@pytest.fixture(scope="module")
def red_ball(done: Done) -> Outcome:
    assert done.ended.outcome == "succeeded", done.ended
    return done.outcome


def test_the_file_is_valid(red_ball: Outcome) -> None:
    """Khronos' validator finds no error, and no hint that tangents are missing."""
    assert gltf_errors(red_ball.path("model.glb")) == []
    codes = {m["code"] for m in validate_gltf(red_ball.path("model.glb"))["issues"]["messages"]}
    assert "MESH_PRIMITIVE_GENERATED_TANGENT_SPACE" not in codes


def test_a_normal_map_comes_with_tangents(red_ball: Outcome) -> None:
    """One is never there without the other."""
    info = validate_gltf(red_ball.path("model.glb"))["info"]
    manifest = red_ball.manifest
    attributes = 4 if manifest["material"]["normal_map"] else 3
    assert info["maxAttributes"] == attributes
    assert manifest["mesh"]["tangents"] == manifest["material"]["normal_map"]


def test_unit_size_and_centred(red_ball: Outcome) -> None:
    """The longest extent is 1 and the box is centred on the origin."""
    low, high = red_ball.mesh.bounds
    assert (high - low).max() == pytest.approx(1.0, abs=1e-5)
    assert low + high == pytest.approx([0, 0, 0], abs=1e-5)


def test_the_texture_is_as_large_as_asked(red_ball: Outcome) -> None:
    """And the manifest says so."""
    assert red_ball.mesh.visual.material.baseColorTexture.size == (512, 512)
    assert red_ball.manifest["texture"]["size"] == 512


def test_artifacts(red_ball: Outcome) -> None:
    """All files come, each of its kind."""
    stills = [f"preview_{side}.png" for side in ("clay", "front", "right", "back", "left")]
    kinds = {name: kind for name, (kind, _, _) in red_ball.recorder.artifacts.items()}
    assert kinds == {
        **dict.fromkeys([*stills, "turntable.webp"], ArtifactKind.PREVIEW),
        "model.glb": ArtifactKind.MODEL_3D,
        "quality.json": ArtifactKind.ANALYTICS,
        "manifest.json": ArtifactKind.MANIFEST,
    }


def test_the_front_shows_the_picture(red_ball: Outcome) -> None:
    """The front view is red in the middle, as the ball is."""
    with Image.open(red_ball.path("preview_front.png")) as still:
        assert still.size == (768, 768)
        red, green, blue = still.convert("RGB").getpixel((384, 384))
    assert red > green + 30
    assert red > blue + 30
    with Image.open(red_ball.path("turntable.webp")) as turntable:
        assert turntable.n_frames == 24


def test_progress_only_rises(red_ball: Outcome) -> None:
    """Percent never falls, ends at 100, and every stage is named."""
    percents = [percent for percent, _ in red_ball.recorder.steps]
    assert percents == sorted(percents)
    assert percents[-1] == 100
    assert {stage for _, stage in red_ball.recorder.steps} == {
        "decode", "cutout", "reconstruct", "export", "quality", "previews",
    }  # fmt: skip


def test_the_manifest_says_how_it_was_made(red_ball: Outcome) -> None:
    """Parameters, input, hashes, device and the other Python's libraries stand in it."""
    manifest = red_ball.manifest
    assert manifest["model"] == "sf3d-v1"
    assert manifest["seed"] == manifest["parameters"]["seed"] == 7
    assert manifest["parameters"]["foreground_ratio"] == 0.85
    assert manifest["cutout"]["source"] == "automatic"
    assert manifest["glb"]["sha256"] == red_ball.glb_hash
    assert manifest["upstream"]["device"] in {"cpu", "cuda", "mps"}
    assert manifest["upstream"]["python"]
    assert "/" not in manifest["upstream"]["weights"] or "SF3D_MODEL" in os.environ
    assert manifest["mesh"]["faces"] == len(red_ball.mesh.faces) == red_ball.metrics["faces"]
    assert set(manifest["seconds"]) == {
        "decode", "cutout", "reconstruct", "export", "quality", "previews",
    }  # fmt: skip
    assert manifest["quality"]["triangles"] == manifest["mesh"]["faces"]
    assert manifest["quality"]["uv"]["outside"] == 0.0


def test_other_formats(sf3d: Installation) -> None:
    """Formats that are asked for come beside the GLB."""
    done = sf3d.run(encode(scene(ball)), texture_resolution=512, formats=["glb", "obj", "usdz"])
    assert done.ended.outcome == "succeeded", done.ended
    kinds = {name: kind for name, (kind, _, _) in done.outcome.recorder.artifacts.items()}
    made = {name for name, kind in kinds.items() if kind == ArtifactKind.MODEL_3D}
    assert made == {"model.glb", "model_obj.zip", "model.usdz"}


def test_a_lopsided_thing_keeps_its_sides(sf3d: Installation) -> None:
    """The foot at the picture's lower right is at +X and -Y, and the picture is on the +Z side."""
    done = sf3d.run(encode(scene(figure)), texture_resolution=512)
    assert done.ended.outcome == "succeeded", done.ended
    mesh = done.outcome.mesh
    points = mesh.vertices
    assert points[points[:, 1] < -0.3][:, 0].max() > points[points[:, 1] > 0.1][:, 0].max() + 0.1
    centres = mesh.triangles_center
    foot = (mesh.face_normals[:, 2] > 0.5) & (centres[:, 1] < -0.35) & (centres[:, 0] > 0.15)
    assert foot.any()
    u, v = mesh.visual.uv[mesh.faces[foot]].mean(axis=1).T
    texture = np.asarray(mesh.visual.material.baseColorTexture.convert("RGB")).astype(int)
    side = len(texture)
    rows, columns = ((1 - v) * side).astype(int), (u * side).astype(int)
    colour = np.median(texture[rows.clip(0, side - 1), columns.clip(0, side - 1)], axis=0)
    assert colour[0] > colour[2] + 30, "yellow, as in the picture"


@pytest.mark.parametrize("remesh", ["triangle", "quad"])
def test_remeshing(sf3d: Installation, remesh: str) -> None:
    """Both kinds of remeshing give a valid file."""
    done = sf3d.run(encode(scene(ball)), texture_resolution=512, remesh=remesh, vertex_count=2000)
    assert done.ended.outcome == "succeeded", done.ended
    assert gltf_errors(done.outcome.path("model.glb")) == []


@pytest.mark.parametrize("stage", ["cutout", "reconstruct", "previews"])
def test_a_run_can_be_stopped_anywhere(sf3d: Installation, stage: str) -> None:
    """A stop ends the run, wherever it is computing, and the next run works."""
    # A real model on a CPU may take longer than the grace, and is killed.
    with suppress(HostCrashedError):
        stopped = sf3d.run(encode(scene(ball)), texture_resolution=512, stop_in=stage)
        assert stopped.ended.outcome == "cancelled"
        assert "manifest.json" not in stopped.outcome.recorder.artifacts
    sf3d.pool.await_started()
    again = sf3d.run(encode(scene(ball)), texture_resolution=512)
    assert again.ended.outcome == "succeeded", again.ended


@pytest.mark.parametrize(
    ("picture", "code"),
    [
        (b"GIF89a", "INVALID_INPUT"),
        (encode(np.full((128, 128, 3), 200, np.uint8)), "CUTOUT_EMPTY"),
        (encode(np.zeros((128, 128, 4), np.uint8)), "CUTOUT_EMPTY"),
    ],
)
def test_a_bad_picture_fails_for_good(sf3d: Installation, picture: bytes, code: str) -> None:
    """What no model could use is refused before the model is asked."""
    ended = sf3d.run(picture).ended
    assert (ended.outcome, ended.code, ended.permanent) == ("failed", code, True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"texture_resolution": 700},
        {"foreground_ratio": 0.05},
        {"remesh": "hexagon"},
        {"vertex_count": 20001},
        {"seed": -1},
        {"unknown": 1},
    ],
)
def test_bad_parameters_fail_for_good(sf3d: Installation, wrong: dict[str, object]) -> None:
    """Parameters out of range are refused with a sentence, before any work."""
    ended = sf3d.run(encode(scene(ball)), **wrong).ended
    assert (ended.outcome, ended.code) == ("failed", "INVALID_PARAMETERS")
    assert next(iter(wrong)) in ended.message
    assert ended.permanent


def test_nothing_of_ours_is_left_running(sf3d: Installation, done: Done) -> None:
    """The helping process ends with its host."""
    host = sf3d.pool.require("sf3d", RunControl())
    helpers = [
        path.parent
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if b"worker_vm.companion" in path.read_bytes()
    ]
    assert helpers
    host.stop()
    assert not any((path / "exe").exists() for path in helpers)
