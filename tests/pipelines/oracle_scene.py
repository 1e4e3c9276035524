"""A scene known in closed form, and a diffusion model that knows nothing else.

Standing figure of four ellipsoids, each of its own colour: exact to render, to sample and to ask
for what lies inside.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worker_vm.pipelines.dreamfusion.cameras import Shading, Views
from worker_vm.pipelines.dreamfusion.guidance import (
    NoiseSchedule,
    ScoreDistillation,
    TimestepRange,
)
from worker_vm.pipelines.dreamfusion.volume import lambert

_PARTS = (
    # centre, half axes, colour
    ((0.0, -0.15, 0.0), (0.42, 0.5, 0.34), (0.85, 0.2, 0.15)),  # a red body
    ((0.0, 0.48, 0.05), (0.3, 0.28, 0.28), (0.95, 0.8, 0.2)),  # a yellow head
    ((0.48, -0.05, 0.0), (0.28, 0.16, 0.16), (0.15, 0.3, 0.85)),  # a blue arm at +X
    ((0.0, -0.5, 0.3), (0.2, 0.16, 0.3), (0.2, 0.7, 0.25)),  # a green foot towards +Z
)
CENTRES, AXES, COLOURS = (torch.tensor([part[i] for part in _PARTS]) for i in range(3))

LOW, HIGH = (CENTRES - AXES).min(dim=0).values, (CENTRES + AXES).max(dim=0).values
EXTENT = float((HIGH - LOW).max())
MIDDLE = ((LOW + HIGH) / 2.0).numpy()


def inside(points: Tensor) -> Tensor:
    """Whether points (n, 3) lie in any of the parts."""
    return (((points[:, None] - CENTRES) / AXES).square().sum(dim=2) < 1.0).any(dim=1)


def surface_points(count: int, seed: int = 0) -> NDArray[np.float64]:
    """Points (about `count`, 3) spread evenly over the surface of the union."""
    rng = np.random.default_rng(seed)
    found = []
    for centre, axes in zip(CENTRES.numpy(), AXES.numpy(), strict=True):
        unit = rng.normal(size=(6 * count, 3))
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
        # The sphere's points, thinned to what their surroundings' area becomes.
        stretch = np.linalg.norm(unit / axes, axis=1) * axes.prod()
        kept = unit[rng.random(len(unit)) < stretch / axes.prod() * axes.min()]
        area = 4.0 * np.pi * stretch.mean()
        found.append((centre + kept * axes, area))
    density = min(len(points) / area for points, area in found)
    parts = [points[: int(density * area)] for points, area in found]
    for number, part in enumerate(parts):
        others = [i for i in range(len(parts)) if i != number]
        apart = ((part[:, None] - CENTRES.numpy()[others]) / AXES.numpy()[others]) ** 2
        parts[number] = part[(apart.sum(axis=2) > 1.0).all(axis=1)]
    joined = np.vstack(parts)
    return joined[rng.permutation(len(joined))[:count]]


def photograph(views: Views, *, fine: int = 2) -> Tensor:
    """The scene (b, 3, size, size) as the views see it, each pixel a mean of fine x fine rays."""
    sharp = replace(views, size=views.size * fine)
    origins, directions = sharp.rays()
    # A ray meets an ellipsoid where it meets the unit sphere after both are scaled by its axes.
    start = (origins[..., None, :] - CENTRES) / AXES
    way = directions[..., None, :] / AXES
    a, b = way.square().sum(-1), (start * way).sum(-1)
    root = b.square() - a * (start.square().sum(-1) - 1.0)
    reach = torch.where(root > 0.0, (-b - root.clamp(min=0.0).sqrt()) / a, torch.inf)
    distance, part = reach.min(dim=-1)
    hit = torch.isfinite(distance)[..., None]
    points = origins + directions * distance.nan_to_num(posinf=0.0)[..., None]
    normals = torch.nn.functional.normalize((points - CENTRES[part]) / AXES[part] ** 2, dim=-1)
    colours = COLOURS[part]
    if views.shading is not Shading.ALBEDO:
        light = lambert(points, normals, views.lights[:, None, None])
        colours = (
            light.expand(colours.shape) if views.shading is Shading.TEXTURELESS else colours * light
        )
    pixels = torch.where(hit, colours, views.background[:, None, None]).permute(0, 3, 1, 2)
    return torch.nn.functional.avg_pool2d(pixels, fine)


class Oracle(ScoreDistillation):
    """A model of pictures for which each view has a single possible picture, x*.

    Its noise prediction is then exact: eps = (z_t - alpha_t x*) / sigma_t.
    """

    def __init__(self, device: str | torch.device = "cpu") -> None:
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
        schedule = NoiseSchedule(torch.cumprod(1.0 - betas, dim=0).to(device))
        super().__init__(schedule, TimestepRange())

    def describe(self) -> dict[str, Any]:
        """Nothing to load, nothing to name."""
        return {"kind": "oracle"}

    def encode(self, images: Tensor) -> Tensor:
        """Pictures are their own latents."""
        return images

    def predict_noise(self, noisy: Tensor, timesteps: Tensor, views: Views) -> Tensor:
        """The noise that is left when the only possible picture is taken away."""
        alpha, sigma = self.schedule.alpha_sigma(timesteps)
        return (noisy - alpha * photograph(views).to(noisy.device)) / sigma
