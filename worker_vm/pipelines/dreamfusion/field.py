"""The object: density and colour on a pyramid of grids."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

DENSITY_SCALE = 30.0
"""Density where the raw value is 1 or so; the ball's radius is the unit of length."""
_BLOB_HEIGHT = 4.0
_BLOB_RADIUS = 0.35
_EMPTY = -5.0
"""Raw density far out, at the start: so little fog that hardly any light is lost in it"""
_COARSEST = 16


@dataclass(frozen=True)
class Lattice:
    """The pyramid added up, at its finest resolution."""

    values: Tensor
    """(1, 4, n, n, n) raw density and raw colours over z, y, x in -1…1"""

    def sample(
        self, points: Tensor, *, slopes: bool = False
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Density (k,), colours (k, 3) and, if asked for, normals (k, 3) at points (k, 3)."""
        values = self.values
        if slopes:
            values = torch.cat([values, _slopes(values[:, :1])], dim=1)
        raw = functional.grid_sample(
            values,
            points[None, None, None],
            mode="bilinear",
            padding_mode="border",
            align_corners=True,
        )[0, :, 0, 0].T
        normals = functional.normalize(-raw[:, 4:7], dim=1, eps=1e-6) if slopes else None
        return density(raw[:, 0]), torch.sigmoid(raw[:, 1:4]), normals


def density(raw: Tensor) -> Tensor:
    """Density from its raw value."""
    return DENSITY_SCALE * functional.softplus(raw)


def raw_of(wanted: float) -> float:
    """The raw value that has a density."""
    return math.log(math.expm1(wanted / DENSITY_SCALE))


class GridField:
    """Grids of 16, 32 … up to `resolution` cells a side, added up.

    Optimised together they converge from coarse to fine, since a step of the coarse ones moves
    whole regions; each is its parameter (1, 4, n, n, n).

    Args:
        resolution: of the finest.
        device: where they live.
    """

    def __init__(self, resolution: int, device: torch.device) -> None:
        self.resolution = resolution
        self.levels: list[Tensor] = [
            torch.zeros(1, 4, side, side, side, device=device) for side in level_sides(resolution)
        ]
        self.levels[0][:, 0] = _blob(self.levels[0].shape[-1]).to(device)
        for level in self.levels:
            level.requires_grad_(True)  # noqa: FBT003  (torch's signature)

    def lattice(self) -> Lattice:
        """Add the pyramid up."""
        total = self.levels[0]
        for level in self.levels[1:]:
            total = level + functional.interpolate(
                total, size=level.shape[2:], mode="trilinear", align_corners=True
            )
        return Lattice(total)

    def load(self, levels: Sequence[Tensor]) -> None:
        """Take over other values of the same shapes."""
        with torch.no_grad():
            for own, other in zip(self.levels, levels, strict=True):
                own.copy_(other)


def level_sides(resolution: int) -> list[int]:
    """The sides of a pyramid's grids, coarsest first."""
    sides = [resolution]
    while sides[0] >= 2 * _COARSEST:
        sides.insert(0, sides[0] // 2)
    return sides


def _blob(side: int) -> Tensor:
    """A soft ball in the middle, from which an object may grow (Poole et al. 2022, A.1)."""
    steps = torch.linspace(-1.0, 1.0, side)
    z, y, x = torch.meshgrid(steps, steps, steps, indexing="ij")
    radius = torch.sqrt(x * x + y * y + z * z)
    return (_BLOB_HEIGHT * (1.0 - radius / _BLOB_RADIUS)).clamp(min=_EMPTY)


def _slopes(raw: Tensor) -> Tensor:
    """Central differences (1, 3, n, n, n) of a grid (1, 1, n, n, n) along x, y and z."""
    padded = functional.pad(raw, (1, 1, 1, 1, 1, 1), mode="replicate")
    inner = slice(1, -1)
    return torch.cat(
        [
            padded[..., inner, inner, 2:] - padded[..., inner, inner, :-2],
            padded[..., inner, 2:, inner] - padded[..., inner, :-2, inner],
            padded[..., 2:, inner, inner] - padded[..., :-2, inner, inner],
        ],
        dim=1,
    )
