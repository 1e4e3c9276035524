"""The pipeline class; it stays light, and what is heavy is imported when it runs."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from worker_vm.pipelines.base import Pipeline, Reporter, RunInput
from worker_vm.pipelines.dreamfusion import settings

if TYPE_CHECKING:
    from worker_vm.pipelines.dreamfusion.guidance import ScoreDistillation
    from worker_vm.pipelines.dreamfusion.parameters import Parameters


class DreamFusionPipeline(Pipeline):
    """Text to textured, watertight GLB, by score distillation."""

    name: ClassVar[str] = "dreamfusion"
    version: ClassVar[str] = "1.1.0"
    cancel_grace_seconds: ClassVar[float] = 20.0
    """A cancelled run keeps its mesh so far."""

    @classmethod
    def unavailable_reasons(cls) -> list[str]:
        """Say which libraries, weights or devices are missing; nothing is imported."""
        return settings.unavailable_reasons()

    def setup(self) -> None:
        """Load and compile the diffusion model.

        Raises:
            PipelineError: the weights cannot be used; the message says why.
        """
        import cv2  # noqa: PLC0415
        import torch  # noqa: PLC0415

        from worker_vm.meshes.handover import warm_up  # noqa: PLC0415

        threads = int(os.environ.get("WORKER_THREADS", "1"))
        cv2.setNumThreads(threads)
        torch.set_num_threads(threads)
        chosen = settings.read_settings()
        self._device = torch.device(chosen.device)
        self._load(chosen)
        warm_up()

    def _load(self, chosen: settings.Settings) -> None:
        from worker_vm.pipelines.dreamfusion.diffusion_model import load  # noqa: PLC0415

        self._model = load(chosen)

    def _guidance(self, prompt: str, parameters: "Parameters") -> "ScoreDistillation":
        """What leads a run; made for each, since it holds the prompt."""
        from worker_vm.pipelines.dreamfusion.guidance_sd import (  # noqa: PLC0415
            StableDiffusionGuidance,
        )
        from worker_vm.pipelines.dreamfusion.prompts import tokenize  # noqa: PLC0415

        tokens = tokenize(
            self._model.tokenizer,
            prompt,
            parameters.negative_prompt,
            view_prompts=parameters.view_prompts,
            truncate=parameters.truncate,
        )
        return StableDiffusionGuidance(
            self._model, tokens, parameters.guidance_scale, parameters.timesteps
        )

    def smaller_params(self, params: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Smaller renderings and a coarser grid."""
        from worker_vm.pipelines.dreamfusion.parameters import smaller  # noqa: PLC0415

        return smaller(params)

    def run(self, job: RunInput, report: Reporter) -> dict[str, float]:
        """Make `model.glb`, previews, checkpoints and `manifest.json`.

        Raises:
            PipelineError: see docs/dreamfusion.md for the codes.
        """
        from worker_vm.pipelines.dreamfusion.parameters import read_parameters  # noqa: PLC0415
        from worker_vm.pipelines.dreamfusion.run import Run  # noqa: PLC0415

        parameters = read_parameters(job.params)
        return Run(
            job,
            report,
            parameters=parameters,
            guidance=self._guidance(job.prompt or "", parameters),
            device=self._device,
            version=self.version,
        ).execute()
