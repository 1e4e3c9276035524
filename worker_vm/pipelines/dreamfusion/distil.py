"""The loop: render, ask the guidance, step."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from worker_vm.pipelines.dreamfusion import cameras, volume
from worker_vm.pipelines.dreamfusion.cameras import Shading, Views
from worker_vm.pipelines.dreamfusion.field import GridField, Lattice
from worker_vm.pipelines.dreamfusion.guidance import ScoreDistillation
from worker_vm.pipelines.dreamfusion.meshing import nan_density
from worker_vm.pipelines.dreamfusion.parameters import Parameters

_BETAS = (0.9, 0.99)
_WARM_UP_STEPS = 10
_LAST_RATE = 0.1
"""of the learning rate, at the end"""
_CHECK_EVERY = 20
_SEEDS_APART = 1_000_003


@dataclass(frozen=True)
class Stage:
    """A part of the run."""

    name: str
    until: float
    """share of the steps"""
    most_pixels: int
    """on a side of the renderings"""
    lit_from: float
    """share of the steps before which colours alone are shown"""


STAGES = (Stage("shape", 0.35, 64, lit_from=0.15), Stage("detail", 1.0, 4096, lit_from=0.0))


class Distillation:
    """An object that is becoming what the guidance wants.

    All that is random in a step follows from the seed and the step's number, so that a run which
    goes on from a checkpoint draws what the uninterrupted one would have drawn.

    Args:
        parameters: of the job.
        guidance: on the same device.
        device: where the field lives.
    """

    def __init__(
        self, parameters: Parameters, guidance: ScoreDistillation, device: torch.device
    ) -> None:
        self.field = GridField(parameters.grid_resolution, device)
        self.step = 0
        self._parameters = parameters
        self._guidance = guidance
        self.optimiser = torch.optim.Adam(
            self.field.levels, lr=parameters.learning_rate, betas=_BETAS, eps=1e-15
        )

    @property
    def finished(self) -> bool:
        """Whether all steps are taken."""
        return self.step >= self._parameters.steps

    @property
    def done(self) -> float:
        """Share of the steps taken, 0…1."""
        return self.step / self._parameters.steps

    @property
    def stage(self) -> Stage:
        """The stage that the next step belongs to."""
        return next((stage for stage in STAGES if self.done < stage.until), STAGES[-1])

    def advance(self) -> None:
        """Take one step.

        Raises:
            PipelineError: DENSITY_NAN, the optimisation diverged.
        """
        parameters, done = self._parameters, self.done
        generator = torch.Generator().manual_seed(parameters.seed * _SEEDS_APART + self.step)
        views = self._views(generator)
        seen = volume.render(
            self.field.lattice(), views, samples=parameters.samples, generator=generator
        )
        loss = self._guidance.loss(seen.images, views, done=done, generator=generator)
        loss = loss + parameters.opacity_weight * opacity_penalty(seen.opacity)
        loss = loss + parameters.orientation_weight * seen.backfacing
        self.optimiser.zero_grad()
        loss.backward()
        for group in self.optimiser.param_groups:
            group["lr"] = parameters.learning_rate * rate(self.step, done)
        self.optimiser.step()
        self.step += 1
        # Looking at a number makes the GPU wait, so not at each.
        if (self.step % _CHECK_EVERY == 0 or self.finished) and not bool(torch.isfinite(loss)):
            raise nan_density()

    def lattice(self) -> Lattice:
        """The object as it is now."""
        with torch.no_grad():
            return self.field.lattice()

    def pictures(self, views: Views) -> NDArray[np.uint8]:
        """What (b,) views see now, (b, size, size, 3)."""
        lattice, found = self.lattice(), []
        with torch.no_grad():
            for number in range(len(views.eyes)):
                seen = volume.render(lattice, views.only(number), samples=self._parameters.samples)
                pixels = (seen.images[0].clamp(0.0, 1.0) * 255.0).round().to(torch.uint8)
                found.append(pixels.permute(1, 2, 0).cpu().numpy())
        return np.stack(found)

    def _views(self, generator: torch.Generator) -> Views:
        parameters, stage = self._parameters, self.stage
        lit, bare = torch.rand(2, generator=generator).tolist()
        shading = Shading.ALBEDO
        if self.done >= stage.lit_from and lit < parameters.lit_share:
            shading = Shading.TEXTURELESS if bare < 0.5 else Shading.LAMBERT  # noqa: PLR2004
        return cameras.sample_views(
            parameters.views_per_step,
            size=min(parameters.resolution, stage.most_pixels),
            shading=shading,
            generator=generator,
        )


def opacity_penalty(opacity: Any) -> Any:
    """Keeps empty space empty (Poole et al. 2022, A.2), a mean over the pixels."""
    return (opacity.square() + 0.01).sqrt().mean()


def rate(step: int, done: float) -> float:
    """The learning rate's share at a step: rises over the first few, then falls."""
    return min(1.0, (step + 1) / _WARM_UP_STEPS) * (1.0 - (1.0 - _LAST_RATE) * done)
