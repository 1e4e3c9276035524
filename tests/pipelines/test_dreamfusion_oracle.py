"""Whole runs, guided by a model that knows one scene exactly: what comes out is that scene.

So the loop, the renderer, the mesher and the exporter are proven without any weights.
"""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from dreamfusion_runs import (
    QUICK,
    Canceller,
    OraclePipeline,
    checkpoints,
    job,
    run,
)
from inflate_runs import Outcome
from mesh_measures import scene_chamfer, scene_iou, unlit
from oracle_scene import photograph
from PIL import Image

from contract.kinds import ArtifactKind
from tests.support.gltf_validator import gltf_errors
from worker_vm.pipelines.base import RunCancelledError
from worker_vm.pipelines.dreamfusion.cameras import look_from

SEEDS = (0, 1, 2)
# From below the training's views, and from between them.
UNSEEN = ((17.0, -22.0), (109.0, -16.0), (190.0, -20.0), (263.0, 45.0), (315.0, 5.0))


@pytest.fixture(scope="module")
def pipeline() -> OraclePipeline:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DREAMFUSION_DEVICE", "cpu")
        pipeline = OraclePipeline()
        pipeline.setup()
    return pipeline


@pytest.fixture(scope="module")
def results(
    pipeline: OraclePipeline, tmp_path_factory: pytest.TempPathFactory
) -> dict[int, Outcome]:
    return {seed: run(pipeline, job(tmp_path_factory.mktemp("run"), seed=seed)) for seed in SEEDS}


@pytest.mark.parametrize("seed", SEEDS)
def test_shape_is_found(results: dict[int, Outcome], seed: int) -> None:
    """At least 0.85 of the volume is shared, and surfaces lie within 0.02 of the extent."""
    assert QUICK["steps"] <= 200
    mesh = results[seed].mesh
    assert scene_iou(mesh) >= 0.85
    assert scene_chamfer(mesh) <= 0.02


@pytest.mark.parametrize("seed", SEEDS)
def test_colours_are_right_from_unseen_views(results: dict[int, Outcome], seed: int) -> None:
    """The baked texture shows the scene's colours where no training view has been."""
    for azimuth, elevation in UNSEEN:
        views = look_from(
            torch.tensor([math.radians(azimuth)]),
            torch.tensor([math.radians(elevation)]),
            torch.tensor([3.0]),
            torch.tensor([math.radians(40.0)]),
            size=96,
        )
        ours, hit = unlit(results[seed].mesh, views)
        truth = photograph(views, fine=1)[0].permute(1, 2, 0).numpy()
        both = hit & (truth != 1.0).any(axis=2)
        assert both.sum() > 0.9 * hit.sum()
        away = np.abs(ours - truth).max(axis=2)[both]
        assert away.mean() < 0.1
        assert (away < 0.25).mean() > 0.94


@pytest.mark.parametrize("seed", SEEDS)
def test_mesh_is_one_closed_body_in_a_valid_file(results: dict[int, Outcome], seed: int) -> None:
    """Watertight after joining the seams, wound outwards, and without errors for the validator."""
    mesh = results[seed].welded
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.volume > 0
    assert mesh.body_count == 1
    assert mesh.extents.max() == pytest.approx(1.0, abs=1e-5)
    assert gltf_errors(results[seed].path("model.glb")) == []


def test_progress_rises_through_the_stages(results: dict[int, Outcome]) -> None:
    """Percent never falls, and every stage is named."""
    percents, stages = zip(*results[0].recorder.steps, strict=True)
    assert list(percents) == sorted(percents)
    assert percents[-1] == 100.0
    assert list(dict.fromkeys(stages)) == ["shape", "detail", "mesh", "quality", "previews"]


def test_quality_is_told(results: dict[int, Outcome]) -> None:
    """The mesh is closed and no texel is shown twice; the manifest says so, too."""
    for outcome in results.values():
        quality = outcome.manifest["quality"]
        assert quality == json.loads(outcome.path("quality.json").read_text())
        assert quality["watertight"] is True
        assert quality["inverted_bodies"] == 0
        assert quality["triangles"] == outcome.manifest["mesh"]["faces"]
        assert quality["uv"]["overlap"] < 0.001


def test_it_can_be_watched(results: dict[int, Outcome]) -> None:
    """Stills and a turntable come before the model, the rest after it."""
    order, artifacts = results[0].recorder.order, results[0].recorder.artifacts
    before = order[: order.index("model.glb")]
    assert "turntable_shape.webp" in before
    stills = [name for name in before if name.startswith("preview_step_")]
    assert stills
    for name in (*stills, "preview_front.png", "preview_clay.png", "turntable.webp"):
        assert artifacts[name][0] is ArtifactKind.PREVIEW
    with Image.open(artifacts["turntable_shape.webp"][1]) as turn:
        assert turn.n_frames == 24
    with Image.open(artifacts[stills[-1]][1]) as still:
        # Colours, not an empty picture.
        assert np.ptp(np.asarray(still.convert("RGB")), axis=(0, 1)).min() > 60


def test_manifest_tells_how_it_was_made(results: dict[int, Outcome]) -> None:
    """Parameters, speed, memory, versions, the guidance, the mesh and the file's checksum."""
    outcome = results[1]
    manifest = outcome.manifest
    assert manifest["prompt"] == "a figure"
    assert manifest["seed"] == manifest["parameters"]["seed"] == 1
    assert manifest["steps"] == manifest["parameters"]["steps"] == QUICK["steps"]
    assert manifest["partial"] is False
    assert manifest["resumed_from_step"] == 0
    assert manifest["steps_per_second"] > 0
    assert manifest["peak_memory_bytes"] > 10**7
    assert manifest["guidance"] == {"kind": "oracle"}
    assert {"torch", "diffusers", "transformers", "manifold3d"} <= set(manifest["libraries"])
    assert manifest["glb"]["sha256"] == outcome.glb_hash
    assert manifest["mesh"]["watertight"] is True
    assert outcome.metrics["steps_per_second"] == pytest.approx(
        manifest["steps_per_second"], abs=1e-3
    )


def test_killed_run_goes_on_from_its_checkpoint(
    pipeline: OraclePipeline, results: dict[int, Outcome], tmp_path: Path
) -> None:
    """Stopped at 60 % it keeps a partial mesh; the next attempt goes on, to the same end."""
    stopped = Canceller(at=2.0 + 0.61 * 84.0)
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    with pytest.raises(RunCancelledError):
        pipeline.run(job(first), stopped)

    kind, partial, media_type = stopped.artifacts["model_partial.glb"]
    assert (kind, media_type) == (ArtifactKind.MODEL_3D, "model/gltf-binary")
    assert gltf_errors(partial) == []
    kept = Outcome(stopped, {})
    assert kept.manifest["partial"] is True
    assert 0.6 * QUICK["steps"] <= kept.manifest["steps"] < 0.65 * QUICK["steps"]

    newest = checkpoints(stopped)[-1]
    assert newest.name == "checkpoint_000072.safetensors"
    resumed = run(pipeline, job(second, checkpoint=newest))
    assert resumed.manifest["resumed_from_step"] == 72
    assert resumed.manifest["steps"] == QUICK["steps"]
    messages = resumed.recorder.steps
    assert messages[1][0] > 2.0 + 0.59 * 84.0  # the first step is the 73rd

    through = results[0]
    assert scene_iou(resumed.mesh) == pytest.approx(scene_iou(through.mesh), abs=0.01)
    assert scene_chamfer(resumed.mesh) == pytest.approx(scene_chamfer(through.mesh), abs=0.002)
    assert resumed.welded.volume == pytest.approx(through.welded.volume, rel=0.02)
    assert resumed.welded.is_watertight
