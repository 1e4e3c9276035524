"""Guidance by Stable Diffusion."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from worker_vm.pipelines.dreamfusion.cameras import Views
from worker_vm.pipelines.dreamfusion.devices import to_device
from worker_vm.pipelines.dreamfusion.diffusion_model import DiffusionModel
from worker_vm.pipelines.dreamfusion.guidance import ScoreDistillation, TimestepRange
from worker_vm.pipelines.dreamfusion.prompts import PromptTokens, side_shares


class StableDiffusionGuidance(ScoreDistillation):
    """Score distillation with classifier-free guidance (Ho and Salimans 2022).

    Args:
        model: loaded.
        prompt: tokens for each side, and of what it should not look like.
        scale: of the guidance; 1 is none.
        timesteps: which are used.
    """

    def __init__(
        self, model: DiffusionModel, prompt: PromptTokens, scale: float, timesteps: TimestepRange
    ) -> None:
        super().__init__(model.schedule, timesteps)
        self._model = model
        self._scale = scale
        self._cut = prompt.cut
        self._sides = model.text_embeddings(prompt.sides)
        self._negative = model.text_embeddings(prompt.negative)

    def describe(self) -> dict[str, Any]:
        """The model, as the manifest names it."""
        return {
            "kind": "stable-diffusion",
            "model": self._model.name,
            "prediction_type": self._model.prediction_type,
            "dtype": str(self._model.dtype).removeprefix("torch."),
            "tokens_cut": self._cut,
        }

    def encode(self, images: Tensor) -> Tensor:
        """Latents of the pictures, at the size that the model knows."""
        size = (self._model.side, self._model.side)
        large = functional.interpolate(images, size, mode="bilinear", align_corners=False)
        return self._model.latents(large)

    def predict_noise(self, noisy: Tensor, timesteps: Tensor, views: Views) -> Tensor:
        """What the prompt finds, led away from what the negative prompt finds."""
        shares = to_device(side_shares(views.azimuth, views.elevation), self._sides.device)
        wanted = torch.einsum("bs,slc->blc", shares.to(self._sides.dtype), self._sides)
        unwanted = self._negative.expand_as(wanted)
        # Both in one pass.
        both = self._model.noise(
            noisy.repeat(2, 1, 1, 1), timesteps.repeat(2), torch.cat([unwanted, wanted])
        )
        away, towards = both.chunk(2)
        return away + self._scale * (towards - away)
