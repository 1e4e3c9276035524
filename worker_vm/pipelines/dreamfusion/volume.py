"""Differentiable volume rendering (Max 1995; Mildenhall et al. 2020), in pure torch."""

from dataclasses import dataclass

import torch
from torch import Tensor

from worker_vm.pipelines.dreamfusion.cameras import AMBIENT, Shading, Views
from worker_vm.pipelines.dreamfusion.devices import to_device
from worker_vm.pipelines.dreamfusion.field import Lattice


@dataclass(frozen=True)
class Rendering:
    """What the cameras see."""

    images: Tensor
    """(b, 3, size, size) over the views' backgrounds, 0…1"""
    opacity: Tensor
    """(b, size, size) 0…1"""
    backfacing: Tensor
    """scalar: how much of what is seen faces away, a mean over the rays that see something"""


def render(
    lattice: Lattice, views: Views, *, samples: int, generator: torch.Generator | None = None
) -> Rendering:
    """Render a batch of views.

    Rays are laid out on the CPU, where it is known how many meet the object: a GPU would have to
    be waited for.

    Args:
        lattice: the object, on any device.
        views: on the CPU.
        samples: along each ray's way through the unit ball.
        generator: shifts each ray's samples by a random part of their distance; in the middle of
            their intervals without.
    """
    device = lattice.values.device
    origins, directions = (part.reshape(-1, 3) for part in views.rays())
    near, far = ball_chord(origins, directions)
    seen = torch.nonzero(far > near)[:, 0]
    shift = torch.full((len(origins),), 0.5)
    if generator is not None:
        shift = torch.rand(len(origins), generator=generator)
    view_of = seen // (views.size * views.size)
    of_rays = (
        origins[seen],
        directions[seen],
        near[seen, None],
        (far - near)[seen, None] / samples,
        shift[seen, None],
        views.lights[view_of],
        views.background[view_of],
    )
    origins, directions, near, gap, shift, lights, ground = (
        to_device(part, device) for part in of_rays
    )
    steps = near + gap * (torch.arange(samples, device=device) + shift)
    points = origins[:, None] + directions[:, None] * steps[..., None]
    shaded = views.shading is not Shading.ALBEDO
    sigma, colours, normals = lattice.sample(points.reshape(-1, 3), slopes=shaded)
    weights = ray_weights(sigma.reshape(-1, samples), gap)
    colours = colours.reshape(-1, samples, 3)
    backfacing = torch.zeros((), device=device)
    opacity = weights.sum(dim=1)
    if normals is not None:
        normals = normals.reshape(-1, samples, 3)
        away = (normals * directions[:, None]).sum(dim=-1).clamp(min=0.0)
        # The paper stops the gradient at the weights, so that normals turn and nothing fades.
        backfacing = (weights.detach() * away.square()).sum() / (opacity.detach().sum() + 1e-3)
        lit = lambert(points, normals, lights[:, None])
        colours = lit if views.shading is Shading.TEXTURELESS else colours * lit
        colours = colours.expand(-1, -1, 3)
    pixels = (weights[..., None] * colours).sum(dim=1) + (1.0 - opacity)[:, None] * ground
    seen = to_device(seen, device)
    count, size = len(views.eyes), views.size
    canvas = to_device(views.background, device)[:, None].expand(-1, size * size, -1)
    images = (
        canvas.reshape(-1, 3)
        .index_copy(0, seen, pixels)
        .reshape(count, size, size, 3)
        .permute(0, 3, 1, 2)
    )
    cover = torch.zeros(count * size * size, device=device).index_copy(0, seen, opacity)
    return Rendering(images, cover.reshape(count, size, size), backfacing)


def ball_chord(origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Where rays (k, 3) enter and leave the unit ball; far is not more than near if they miss."""
    along = (origins * directions).sum(dim=1)
    inside = along.square() - origins.square().sum(dim=1) + 1.0
    half = inside.clamp(min=0.0).sqrt()
    near = (-along - half).clamp(min=0.0)
    return near, torch.where(inside > 0.0, -along + half, near)


def ray_weights(sigma: Tensor, gap: Tensor) -> Tensor:
    """How much each sample (rays, samples) adds to its pixel: what absorbs there of what is left.

    Args:
        sigma: densities (rays, samples), nearest first.
        gap: (rays, 1) lengths that samples stand for.
    """
    depth = sigma * gap
    before = torch.cumsum(depth, dim=1) - depth
    return torch.exp(-before) * -torch.expm1(-depth)


def lambert(points: Tensor, normals: Tensor, lights: Tensor) -> Tensor:
    """Light (…, 1) on surfaces: ambient, and diffuse from a point light."""
    towards = torch.nn.functional.normalize(lights - points, dim=-1)
    diffuse = (normals * towards).sum(dim=-1, keepdim=True).clamp(min=0.0)
    return AMBIENT + (1.0 - AMBIENT) * diffuse
