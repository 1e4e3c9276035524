"""The pipeline as a whole: from a picture's bytes to files."""

import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from drawn_pictures import ball, encode, figure, ring, scene
from inflate_runs import Outcome, Recorder
from PIL import Image

from contract.kinds import ArtifactKind
from worker_vm.pipelines.base import Pipeline, PipelineError, RunCancelledError, RunInput

Inflate = Callable[..., Outcome]


@pytest.fixture(scope="module")
def red_ball(inflate: Inflate) -> Outcome:
    return inflate(encode(scene(ball)), texture_resolution=512)


@pytest.fixture(scope="module")
def tall(inflate: Inflate) -> Outcome:
    return inflate(encode(scene(figure)), texture_resolution=512, relief=0.0)


def test_body_is_closed(red_ball: Outcome) -> None:
    """The mesh is watertight, wound outwards, and one body without holes."""
    mesh = red_ball.welded
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.volume > 0
    assert mesh.body_count == 1
    assert mesh.euler_number == 2


def test_unit_size_and_centred(tall: Outcome) -> None:
    """The longest extent is 1 and the box is centred on the origin."""
    low, high = tall.mesh.bounds
    assert (high - low).max() == pytest.approx(1.0, abs=1e-5)
    assert low + high == pytest.approx([0, 0, 0], abs=1e-5)


def test_front_faces_plus_z_and_up_is_plus_y(tall: Outcome) -> None:
    """The foot at the picture's lower right is at +X and -Y, and the picture is on the +Z side."""
    mesh = tall.mesh
    points = mesh.vertices
    assert points[points[:, 1] < -0.3][:, 0].max() > points[points[:, 1] > 0][:, 0].max() + 0.1
    texture = np.asarray(mesh.visual.material.baseColorTexture.convert("RGB")).astype(int)
    foot = np.argmax(points @ [0.6, -0.5, 0.6])
    u, v = mesh.visual.uv[foot]
    pixel = texture[int((1 - v) * len(texture)), int(u * len(texture))]
    assert pixel[0] > pixel[2] + 60


def test_ball_is_round(red_ball: Outcome) -> None:
    """A disc becomes an ellipsoid with the documented thickness."""
    extents = red_ball.welded.extents
    assert extents[0] == pytest.approx(1.0, abs=0.02)
    assert extents[1] == pytest.approx(1.0, abs=0.02)
    assert extents[2] == pytest.approx(0.85, abs=0.03)


def test_thickness_scales_depth(inflate: Inflate, red_ball: Outcome) -> None:
    """Half the thickness gives half the depth."""
    thin = inflate(encode(scene(ball)), texture_resolution=512, thickness=0.5)
    assert thin.welded.extents[2] == pytest.approx(red_ball.welded.extents[2] / 2, abs=0.02)


def test_ring_keeps_its_hole(inflate: Inflate) -> None:
    """A ring has Euler number 0, and is still closed."""
    outcome = inflate(encode(scene(ring)), texture_resolution=512)
    assert outcome.welded.is_watertight
    assert outcome.welded.euler_number == 0
    assert outcome.manifest["mesh"]["euler_number"] == 0


@pytest.mark.parametrize("wanted", [100, 1000, 6000])
def test_vertex_count_is_met(inflate: Inflate, wanted: int) -> None:
    """Asked for a number of vertices, the mesh has about that many and is still closed."""
    outcome = inflate(encode(scene(ball)), texture_resolution=512, vertex_count=wanted)
    assert outcome.welded.is_watertight
    assert outcome.manifest["mesh"]["vertices"] == pytest.approx(wanted, rel=0.25)


def test_same_run_same_bytes(inflate: Inflate, red_ball: Outcome) -> None:
    """The same picture, parameters and seed give the same GLB, byte by byte."""
    again = inflate(encode(scene(ball)), texture_resolution=512)
    assert again.glb_hash == red_ball.glb_hash


def test_same_bytes_in_another_process(red_ball: Outcome, tmp_path) -> None:
    """Another process, with another hash seed, writes the same GLB, byte by byte."""
    picture = tmp_path / "picture"
    picture.write_bytes(encode(scene(ball)))
    program = """
import sys, uuid, hashlib
from pathlib import Path
from worker_vm.pipelines.base import RunInput
from worker_vm.pipelines.registry import load_pipeline

class Quiet:
    def progress(self, *_): pass
    def artifact(self, *_): pass

folder = Path(sys.argv[1])
params = {"image_path": "uploads/picture.png", "texture_resolution": 512}
job = RunInput(job_id=uuid.uuid4(), model_id="inflate-v1", model_version="1.0.0", params=params,
               prompt=None, inputs={"image_path": folder / "picture"}, work_dir=folder)
pipeline = load_pipeline("inflate")()
pipeline.setup()
pipeline.run(job, Quiet())
print(hashlib.sha256((folder / "output" / "model.glb").read_bytes()).hexdigest())
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env={**os.environ, "PYTHONHASHSEED": "4711"},
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[-1] == red_ball.glb_hash


def test_flat_base_stands(inflate: Inflate) -> None:
    """With a base, many points lie at the lowest height, facing down, and the body is closed."""
    outcome = inflate(encode(scene(ball)), texture_resolution=512, flat_base=0.05)
    points, normals = outcome.mesh.vertices, outcome.mesh.vertex_normals
    low = points[:, 1] < points[:, 1].min() + 1e-5
    assert low.sum() > 20
    assert normals[low][:, 1].min() < -0.99
    assert outcome.welded.is_watertight
    assert outcome.welded.volume > 0


@pytest.mark.parametrize("resolution", [512, 1024, 2048])
def test_texture_is_at_most_as_large_as_asked(inflate: Inflate, resolution: int) -> None:
    """The texture is square, a power of two, and never larger than asked."""
    outcome = inflate(encode(scene(ball, size=700)), texture_resolution=resolution)
    width, height = outcome.mesh.visual.material.baseColorTexture.size
    assert width == height == outcome.manifest["texture"]["size"]
    assert width <= resolution
    assert width & (width - 1) == 0


def test_uvs_stay_inside(red_ball: Outcome, tall: Outcome) -> None:
    """All texture coordinates lie in 0…1."""
    for outcome in (red_ball, tall):
        assert outcome.mesh.visual.uv.min() >= 0.0
        assert outcome.mesh.visual.uv.max() <= 1.0


def test_no_background_in_the_colours(red_ball: Outcome) -> None:
    """Every point samples the subject's red, never the paper: no halo at the rim."""
    mesh = red_ball.mesh
    texture = np.asarray(mesh.visual.material.baseColorTexture.convert("RGB")).astype(int)
    side = len(texture)
    cols = np.clip((mesh.visual.uv[:, 0] * side).astype(int), 0, side - 1)
    rows = np.clip(((1 - mesh.visual.uv[:, 1]) * side).astype(int), 0, side - 1)
    spread = np.ptp(texture[rows, cols], axis=1)
    assert spread.min() > 50  # paper has a spread of 10


def test_both_sides_of_the_seam_match(red_ball: Outcome) -> None:
    """Front and back show nearly the same colour along the rim."""
    mesh = red_ball.mesh
    texture = np.asarray(mesh.visual.material.baseColorTexture.convert("RGB")).astype(int)
    side = len(texture)
    seen: dict[tuple[float, ...], list[int]] = {}
    for number, point in enumerate(mesh.vertices):
        seen.setdefault(tuple(point), []).append(number)
    pairs = [pair for pair in seen.values() if len(pair) == 2]
    assert len(pairs) > 20

    def colour(vertex: int) -> np.ndarray:
        u, v = mesh.visual.uv[vertex]
        return texture[int((1 - v) * (side - 1)), int(u * (side - 1))]

    differences = [np.abs(colour(a) - colour(b)).max() for a, b in pairs]
    assert np.median(differences) < 16


def test_artifacts_and_their_order(red_ball: Outcome) -> None:
    """All files come, of the right kind, the first still long before the end."""
    recorder = red_ball.recorder
    kinds = {name: kind for name, (kind, _, _) in recorder.artifacts.items()}
    stills = [f"preview_{side}.png" for side in ("clay", "front", "right", "back", "left")]
    assert kinds == {
        **dict.fromkeys([*stills, "turntable.webp"], ArtifactKind.PREVIEW),
        "model.glb": ArtifactKind.MODEL_3D,
        "quality.json": ArtifactKind.ANALYTICS,
        "manifest.json": ArtifactKind.MANIFEST,
    }
    assert recorder.order[0] == "preview_clay.png"
    assert recorder.artifacts["model.glb"][2] == "model/gltf-binary"


def test_previews_are_pictures(red_ball: Outcome) -> None:
    """Stills have 768 pixels a side and show a red ball; the turntable has 24 frames."""
    with Image.open(red_ball.path("preview_front.png")) as still:
        assert still.size == (768, 768)
        red, green, blue = still.convert("RGB").getpixel((384, 384))
        assert red > green + 60
        assert red > blue + 60
    with Image.open(red_ball.path("turntable.webp")) as turntable:
        assert turntable.n_frames == 24
        assert turntable.info["loop"] == 0


def test_progress_only_rises(red_ball: Outcome) -> None:
    """Percent never falls, ends at 100, and every stage is named."""
    percents = [percent for percent, _ in red_ball.recorder.steps]
    assert percents == sorted(percents)
    assert percents[-1] == 100
    stages = {stage for _, stage in red_ball.recorder.steps}
    assert stages == {
        "decode", "cutout", "geometry", "texture", "export", "quality", "previews",
    }  # fmt: skip


def test_manifest_tells_the_truth(red_ball: Outcome) -> None:
    """Hashes, sizes, parameters and mesh facts stand in the manifest."""
    manifest = red_ball.manifest
    assert manifest["model"] == "inflate-v1"
    assert manifest["glb"]["sha256"] == red_ball.glb_hash
    assert manifest["glb"]["bytes"] == red_ball.path("model.glb").stat().st_size
    assert (manifest["input"]["width"], manifest["input"]["height"]) == (320, 320)
    assert manifest["parameters"]["texture_resolution"] == 512
    assert manifest["mesh"]["faces"] == len(red_ball.mesh.faces)
    assert manifest["mesh"]["vertices"] == len(red_ball.welded.vertices)
    assert set(manifest["seconds"]) == {
        "decode", "cutout", "geometry", "texture", "export", "quality", "previews",
    }  # fmt: skip
    assert red_ball.metrics["faces"] == manifest["mesh"]["faces"]
    assert red_ball.metrics["peak_memory_bytes"] > 1e6


def test_quality_is_good(red_ball: Outcome, tall: Outcome) -> None:
    """A printer could take it, no texel is shown twice, and the manifest says the same."""
    for outcome in (red_ball, tall):
        quality = json.loads(outcome.path("quality.json").read_text())
        assert quality == outcome.manifest["quality"]
        assert quality["printable"] is True, quality["not_printable_because"]
        assert quality["triangles"] == outcome.manifest["mesh"]["faces"]
        assert quality["vertices_without_seams"] == outcome.manifest["mesh"]["vertices"]
        assert quality["uv"]["overlap"] < 0.001
        assert quality["uv"]["outside"] == 0.0
        assert quality["degenerate_triangles"] == 0


def test_extra_formats(inflate: Inflate) -> None:
    """Formats that are asked for come beside the GLB, after it."""
    outcome = inflate(
        encode(scene(ball)), texture_resolution=512, formats=["obj", "stl", "ply", "usdz"]
    )
    kinds = [
        name
        for name in outcome.recorder.order
        if outcome.recorder.artifacts[name][0] == ArtifactKind.MODEL_3D
    ]
    assert kinds == ["model.glb", "model_obj.zip", "model.ply", "model.stl", "model.usdz"]
    assert outcome.manifest["parameters"]["formats"] == ["obj", "stl", "ply", "usdz"]


def test_glb_names_its_maker(red_ball: Outcome) -> None:
    """Generator, model and seed stand in the file itself."""
    data = red_ball.path("model.glb").read_bytes()
    length = struct.unpack_from("<I", data, 12)[0]
    asset = json.loads(data[20 : 20 + length])["asset"]
    assert asset["generator"] == "Pipeline 3D"
    assert asset["extras"]["model"] == "inflate-v1"
    assert asset["extras"]["seed"] == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"texture_resolution": 700},
        {"vertex_count": 50},
        {"thickness": 9.0},
        {"relief": float("nan")},
        {"box": [0.5, 0.1, 0.4, 0.9]},
        {"box": [0.1, 0.1, 0.9]},
        {"formats": ["fbx"]},
        {"formats": []},
        {"unknown": 1},
        {"points": [[0.5, 1.2]]},
        {"points": [[0.5]]},
        {"points": [[0.5, 0.5]] * 17},
        {"points": [[0.9, 0.9]], "box": [0.1, 0.1, 0.5, 0.5]},
        {"points": [[0.5, 0.5]], "background_points": [[0.51, 0.5]]},
        {"back": "front"},
        {"flat_base": 0.3},
        {"profile": "thin"},
        {"symmetry": "top_bottom"},
        {"layers": [[0.4, 0.4]]},
        {"layers": [[[0.4, 0.4], [0.6, 0.4]]]},
        {"layers": [[[0.4, 0.4], [0.6, 0.4], [0.6, 1.6]]]},
        {"layers": [[[0.4, 0.4], [0.6, 0.4], [0.5, float("nan")]]]},
        {"layers": [[[0.4, 0.4], [0.6, 0.4], [0.8, 0.4]]]},
        {"layers": [[[0.4, 0.4], [0.6, 0.4], [0.5, 0.6]]] * 9},
        {"layers": [[[0.01 * i, 0.4 + 0.2 * (i % 2)] for i in range(65)]]},
    ],
)
def test_bad_parameters_fail_for_good(inflate: Inflate, wrong: dict[str, object]) -> None:
    """Parameters out of range are refused with a sentence, before any work."""
    with pytest.raises(PipelineError) as caught:
        inflate(encode(scene(ball)), **wrong)
    assert caught.value.code == "INVALID_PARAMETERS"
    assert caught.value.permanent


def test_cancelling_passes_through(pipeline: Pipeline, tmp_path) -> None:
    """What the reporter raises reaches the worker unchanged."""

    class Stopping(Recorder):
        def progress(self, percent: float, stage: str, message: str | None = None) -> None:
            super().progress(percent, stage, message)
            if stage == "geometry":
                raise RunCancelledError

    picture = tmp_path / "picture"
    picture.write_bytes(encode(scene(ball)))
    job = RunInput(
        job_id=None,
        model_id="inflate-v1",
        model_version="1.0.0",
        params={"image_path": "x"},
        prompt=None,
        inputs={"image_path": picture},
        work_dir=tmp_path,
    )
    with pytest.raises(RunCancelledError):
        pipeline.run(job, Stopping())
