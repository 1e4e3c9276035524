"""Runs that end early: diverged, cancelled, or offered a checkpoint that is none of theirs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from dreamfusion_runs import Canceller, OraclePipeline, job
from oracle_scene import Oracle
from torch import Tensor

from contract.kinds import ArtifactKind
from worker_vm.pipelines.base import PipelineError, RunCancelledError
from worker_vm.pipelines.dreamfusion import checkpoint
from worker_vm.pipelines.dreamfusion.cameras import Views
from worker_vm.pipelines.dreamfusion.distil import Distillation
from worker_vm.pipelines.dreamfusion.parameters import Parameters, read_parameters

CPU = torch.device("cpu")


class Deaf(Canceller):
    """A reporter that takes nothing any more once it has said stop."""

    stopped = False

    def progress(self, percent: float, stage: str, message: str | None = None) -> None:
        """Note a step, and stop the run."""
        try:
            super().progress(percent, stage, message)
        except RunCancelledError:
            self.stopped = True
            raise

    def artifact(self, kind: ArtifactKind, path: Path, media_type: str) -> None:
        """Note a file, if it is not too late."""
        if self.stopped:
            raise RunCancelledError
        super().artifact(kind, path, media_type)


class Broken(Oracle):
    """A model whose noise is no number."""

    def predict_noise(self, noisy: Tensor, timesteps: Tensor, views: Views) -> Tensor:
        """Nothing that one could use."""
        return super().predict_noise(noisy, timesteps, views) * torch.nan


def take_steps(distillation: Distillation, count: int) -> None:
    for _ in range(count):
        distillation.advance()


@pytest.fixture(scope="module")
def pipeline() -> OraclePipeline:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DREAMFUSION_DEVICE", "cpu")
        pipeline = OraclePipeline()
        pipeline.setup()
    return pipeline


def test_divergence_is_noticed() -> None:
    """A run whose loss is no number ends for good, and says what to change."""
    distillation = Distillation(Parameters(grid_resolution=64, steps=100), Broken(), CPU)
    with pytest.raises(PipelineError) as caught:
        take_steps(distillation, 30)
    assert caught.value.code == "DENSITY_NAN"
    assert caught.value.permanent
    assert distillation.step < 30


def test_cancelled_before_there_is_anything(pipeline: OraclePipeline, tmp_path: Path) -> None:
    """A grey ball is not worth keeping."""
    recorder = Canceller(at=3.0)
    with pytest.raises(RunCancelledError):
        pipeline.run(job(tmp_path), recorder)
    assert "model_partial.glb" not in recorder.artifacts
    assert "manifest.json" not in recorder.artifacts


def test_cancel_passes_when_nothing_is_taken(pipeline: OraclePipeline, tmp_path: Path) -> None:
    """Where the outside takes no files any more, the run is cancelled all the same."""
    recorder = Deaf(at=2.0 + 0.06 * 84.0)
    with pytest.raises(RunCancelledError):
        pipeline.run(job(tmp_path), recorder)
    assert "model_partial.glb" not in recorder.artifacts


@pytest.mark.parametrize(
    ("prompt", "changed"), [("another figure", {}), ("a figure", {"learning_rate": 0.2})]
)
def test_another_runs_checkpoint_is_not_used(
    pipeline: OraclePipeline,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    prompt: str,
    changed: dict[str, Any],
) -> None:
    """The run says so in its log, and begins at its first step."""
    attempt = job(tmp_path, prompt=prompt, checkpoint=tmp_path / "file", **changed)
    parameters = read_parameters(job(tmp_path).params)
    made = Distillation(parameters, Oracle(), CPU)
    made.step = 60
    mark = checkpoint.fingerprint(parameters, "a figure", Oracle().describe(), pipeline.version)
    checkpoint.save(tmp_path / "file", made, mark)
    recorder = Canceller(at=2.5)
    with pytest.raises(RunCancelledError):
        pipeline.run(attempt, recorder)
    assert "starts anew: it is of another prompt" in capsys.readouterr().out
    assert [percent for percent, _ in recorder.steps][:2] == [1, 2.0]


def test_rubbish_is_not_used(
    pipeline: OraclePipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A damaged file costs a line in the log and nothing else."""
    (tmp_path / "file").write_bytes(b"\x00" * 100)
    with pytest.raises(RunCancelledError):
        pipeline.run(job(tmp_path, checkpoint=tmp_path / "file"), Canceller(at=2.5))
    assert "starts anew: it cannot be read" in capsys.readouterr().out
