"""What tells a rendering from a good picture: score distillation (Poole et al. 2022, eq. 3)."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from worker_vm.pipelines.dreamfusion.cameras import Views
from worker_vm.pipelines.dreamfusion.devices import to_device


@dataclass(frozen=True)
class NoiseSchedule:
    """A variance preserving diffusion: z_t = alpha_t x + sigma_t eps."""

    alphas_cumprod: Tensor
    """(T,) alpha_t squared, falling"""

    def alpha_sigma(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """Alpha and sigma (b, 1, 1, 1) at timesteps (b,)."""
        squared = self.alphas_cumprod[timesteps][:, None, None, None]
        return squared.sqrt(), (1.0 - squared).sqrt()


@dataclass(frozen=True)
class TimestepRange:
    """The share of the diffusion's time that noise is drawn from.

    The upper end falls from `high` to `last` during a run: large noise first decides what there is,
    small noise then how it looks.
    """

    low: float = 0.02
    high: float = 0.98
    last: float = 0.5

    def at(self, done: float, timesteps: int) -> tuple[int, int]:
        """The first and last timestep when the share `done` (0…1) of the run is over."""
        high = self.high + (self.last - self.high) * min(max(done, 0.0), 1.0)
        first = min(int(self.low * timesteps), timesteps - 1)
        return first, min(max(int(high * timesteps), first), timesteps - 1)


class ScoreDistillation(ABC):
    """Guidance by a diffusion model, of pictures or of their latents.

    Args:
        schedule: of the model's noise.
        timesteps: which of its timesteps are used.
    """

    def __init__(self, schedule: NoiseSchedule, timesteps: TimestepRange) -> None:
        self.schedule = schedule
        self.timesteps = timesteps

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """What noise is added to (b, c, h, w), differentiable; images are (b, 3, h, w) in 0…1."""

    @abstractmethod
    def predict_noise(self, noisy: Tensor, timesteps: Tensor, views: Views) -> Tensor:
        """The noise that the model finds in `noisy`, seen as a picture from `views`."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What guides, for the manifest; a checkpoint of another guidance is not gone on from."""

    def loss(
        self, images: Tensor, views: Views, *, done: float, generator: torch.Generator
    ) -> Tensor:
        """A scalar whose gradient is that of score distillation.

        The gradient to the latents is w(t) (predicted - added noise), w(t) = sigma_t², without
        that of the network; the scalar's value itself means nothing.

        Args:
            images: (b, 3, h, w) in 0…1.
            views: what they show.
            done: share of the run, 0…1.
            generator: of timesteps and noise.
        """
        latents = self.encode(images)
        first, last = self.timesteps.at(done, len(self.schedule.alphas_cumprod))
        drawn = torch.randint(first, last + 1, (len(latents),), generator=generator)
        noise = to_device(torch.randn(latents.shape, generator=generator), latents.device)
        timesteps = to_device(drawn, latents.device)
        alpha, sigma = self.schedule.alpha_sigma(timesteps)
        with torch.no_grad():
            found = self.predict_noise(alpha * latents + sigma * noise, timesteps, views)
            gradient = sigma.square() * (found - noise)
        return (gradient * latents).sum() / len(latents)
