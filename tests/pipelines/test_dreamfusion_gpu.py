"""`dreamfusion` on a GPU: the same proofs as on a CPU, and the real code path of the networks."""

from pathlib import Path

import pytest
import torch
from dreamfusion_runs import OraclePipeline, job, run
from mesh_measures import scene_chamfer, scene_iou
from tiny_diffusion import save_tiny_diffusion

from worker_vm.pipelines.dreamfusion.pipeline import DreamFusionPipeline

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DREAMFUSION_DEVICE", "cuda")


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_scene_is_found_on_the_gpu(tmp_path: Path, seed: int) -> None:
    """As on a CPU: 0.85 of the volume is shared, and surfaces lie within 0.02 of the extent."""
    pipeline = OraclePipeline()
    pipeline.setup()
    outcome = run(pipeline, job(tmp_path, seed=seed))
    shared, apart = scene_iou(outcome.mesh), scene_chamfer(outcome.mesh)
    speed = outcome.manifest["steps_per_second"]
    print(f"shared volume {shared:.3f}, distance {apart:.4f}, {speed:.1f} steps/s")  # noqa: T201
    assert shared >= 0.85
    assert apart <= 0.02
    assert outcome.welded.is_watertight
    assert outcome.welded.body_count == 1
    assert outcome.manifest["device"] == torch.cuda.get_device_name()
    assert outcome.manifest["peak_gpu_memory_bytes"] > 10**6


def test_networks_run_compiled_in_bfloat16(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A saved model is loaded, compiled, and guides a run to a closed mesh."""
    folder = save_tiny_diffusion(tmp_path / "tiny", scheduler={"prediction_type": "v_prediction"})
    monkeypatch.setenv("DREAMFUSION_MODEL", str(folder))
    assert DreamFusionPipeline.unavailable_reasons() == []
    pipeline = DreamFusionPipeline()
    pipeline.setup()
    assert "not compiled" not in capsys.readouterr().out
    work_dir = tmp_path / "run"
    work_dir.mkdir()
    outcome = run(pipeline, job(work_dir, prompt="a red cat", steps=100, learning_rate=0.01))
    assert outcome.manifest["guidance"]["dtype"] == "bfloat16"
    assert outcome.welded.is_watertight
