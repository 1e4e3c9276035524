"""Runs of `dreamfusion` that an oracle guides, without a worker."""

import uuid
from pathlib import Path
from typing import Any

from inflate_runs import Outcome, Recorder
from oracle_scene import Oracle

from contract.kinds import ArtifactKind
from worker_vm.pipelines.base import Pipeline, RunCancelledError, RunInput
from worker_vm.pipelines.dreamfusion.guidance import ScoreDistillation
from worker_vm.pipelines.dreamfusion.parameters import Parameters
from worker_vm.pipelines.dreamfusion.pipeline import DreamFusionPipeline
from worker_vm.pipelines.dreamfusion.settings import Settings

QUICK: dict[str, Any] = {
    "steps": 120,
    "grid_resolution": 64,
    "learning_rate": 0.1,
    "opacity_weight": 0.0,
    "orientation_weight": 0.0,
    "texture_resolution": 512,
    "checkpoint_every": 36,
}
"""What a known scene needs: nothing to make up, and much less to find."""


class OraclePipeline(DreamFusionPipeline):
    """The pipeline as it is, but that a closed formula guides it."""

    def _load(self, chosen: Settings) -> None:
        """There is nothing to load."""

    def _guidance(self, prompt: str, parameters: Parameters) -> ScoreDistillation:
        assert prompt
        assert parameters.steps
        return Oracle(self._device)


class Canceller(Recorder):
    """A reporter that says stop at a percentage, and takes files until the end."""

    def __init__(self, at: float) -> None:
        super().__init__()
        self._at = at

    def progress(self, percent: float, stage: str, message: str | None = None) -> None:
        """Note a step, and stop the run."""
        super().progress(percent, stage, message)
        if percent >= self._at:
            raise RunCancelledError


def job(
    work_dir: Path, *, prompt: str = "a figure", checkpoint: Path | None = None, **parameters: Any
) -> RunInput:
    """An attempt with `QUICK` parameters and others."""
    return RunInput(
        job_id=uuid.uuid4(),
        model_id="dreamfusion-sd",
        model_version="1.0.0",
        params={**QUICK, **parameters},
        prompt=prompt,
        inputs={},
        work_dir=work_dir,
        checkpoint=checkpoint,
    )


def run(pipeline: Pipeline, attempt: RunInput) -> Outcome:
    """Run an attempt to its end."""
    recorder = Recorder()
    return Outcome(recorder, pipeline.run(attempt, recorder))


def checkpoints(recorder: Recorder) -> list[Path]:
    """The checkpoints that a run handed over, oldest first."""
    return [
        path for kind, path, _ in recorder.artifacts.values() if kind is ArtifactKind.CHECKPOINT
    ]
