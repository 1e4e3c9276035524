"""Where the object is looked at from, and the rays of those views.

The object lies within the unit ball; +Y is up and azimuth 0 looks at its front, +Z, as in
`worker_vm.rendering.camera`.
"""

import math
from dataclasses import dataclass, replace
from enum import StrEnum

import torch
from torch import Tensor

DISTANCE = (2.7, 3.3)
"""of the camera from the object's centre"""
FIELD_OF_VIEW = (36.0, 46.0)
"""degrees"""
ELEVATION = (-10.0, 60.0)
"""degrees, most views"""
OVERHEAD = (60.0, 85.0)
OVERHEAD_SHARE = 0.12
LIGHT_DISTANCE = (0.8, 1.5)
AMBIENT = 0.1
"""of the light in shaded views (Poole et al. 2022, appendix A.2)"""


class Shading(StrEnum):
    """How surfaces are lit in a view."""

    ALBEDO = "albedo"
    """colours alone"""
    LAMBERT = "lambert"
    """colours, lit by a point light"""
    TEXTURELESS = "textureless"
    """white, lit by a point light: shows the shape alone"""


@dataclass(frozen=True)
class Views:
    """A batch of b views of one size, on the CPU."""

    eyes: Tensor
    """(b, 3)"""
    basis: Tensor
    """(b, 3, 3), rows: right, up and back"""
    focal: Tensor
    """(b,) of half a picture's side"""
    azimuth: Tensor
    """(b,) radians"""
    elevation: Tensor
    """(b,) radians"""
    background: Tensor
    """(b, 3) colours"""
    lights: Tensor
    """(b, 3) places"""
    size: int
    """pixels on a side"""
    shading: Shading = Shading.ALBEDO

    def rays(self) -> tuple[Tensor, Tensor]:
        """Origins and unit directions (b, size, size, 3), through the pixels' middles."""
        steps = (torch.arange(self.size, device=self.eyes.device) + 0.5) / self.size * 2.0 - 1.0
        y, x = torch.meshgrid(-steps, steps, indexing="ij")
        flat = torch.stack([x, y, torch.zeros_like(x)], dim=-1) / self.focal[:, None, None, None]
        flat = flat - torch.tensor([0.0, 0.0, 1.0], device=flat.device)
        directions = torch.nn.functional.normalize(
            torch.einsum("bhwi,bij->bhwj", flat, self.basis), dim=-1
        )
        return self.eyes[:, None, None, :].expand_as(directions), directions

    def only(self, number: int) -> "Views":
        """One of them."""
        one = slice(number, number + 1)
        of_one = {
            name: value[one] for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, **of_one)


def look_from(
    azimuth: Tensor, elevation: Tensor, distance: Tensor, field_of_view: Tensor, *, size: int
) -> Views:
    """Views (b,) at the object's centre, before white, lit from the camera; angles in radians."""
    ca, sa = torch.cos(azimuth), torch.sin(azimuth)
    ce, se = torch.cos(elevation), torch.sin(elevation)
    zero = torch.zeros_like(ca)
    right = torch.stack([ca, zero, -sa], dim=1)
    up = torch.stack([-sa * se, ce, -ca * se], dim=1)
    back = torch.stack([sa * ce, se, ca * ce], dim=1)
    eyes = back * distance[:, None]
    return Views(
        eyes=eyes,
        basis=torch.stack([right, up, back], dim=1),
        focal=1.0 / torch.tan(field_of_view / 2.0),
        azimuth=azimuth,
        elevation=elevation,
        background=torch.ones(len(azimuth), 3),
        lights=eyes,
        size=size,
    )


def turntable(count: int, *, size: int, start: float = 0.0) -> Views:
    """Views from all around, slightly above the horizon."""
    azimuth = start + torch.arange(count) / count * 2.0 * math.pi
    same = torch.ones(count)
    return look_from(
        azimuth, same * math.radians(12.0), same * 3.0, same * math.radians(40.0), size=size
    )


def sample_views(count: int, *, size: int, shading: Shading, generator: torch.Generator) -> Views:
    """Random views: even about the object, most near its height, a few from overhead.

    Backgrounds are of random colour, so that nothing but density can hide them.
    """

    def between(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    overhead = torch.rand(count, generator=generator) < OVERHEAD_SHARE
    low, high = between(*ELEVATION), between(*OVERHEAD)
    # Spread over the circle: views of one step see different sides.
    spread = (torch.rand(1, generator=generator) + (torch.arange(count) / count)) % 1.0
    views = look_from(
        spread * 2.0 * math.pi,
        torch.deg2rad(torch.where(overhead, high, low)),
        between(*DISTANCE),
        torch.deg2rad(between(*FIELD_OF_VIEW)),
        size=size,
    )
    wobble = torch.randn(count, 3, generator=generator)
    towards = torch.nn.functional.normalize(views.basis[:, 2] + 0.5 * wobble, dim=1)
    lights = towards * (views.eyes.norm(dim=1) * between(*LIGHT_DISTANCE))[:, None]
    background = torch.rand(count, 3, generator=generator)
    return replace(views, lights=lights, background=background, shading=shading)
