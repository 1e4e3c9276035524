"""How a mesh uses its texture."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from worker_vm.meshes.contents import Contents, Floats, Part
from worker_vm.meshes.kernels import SUBTEXEL, cover

_SIDE = 1024
"""Texels across at which is measured, whatever size the texture has."""
_MARGIN = 1e-4


@dataclass(frozen=True)
class TexelUse:
    """Shares of the texture's area, or of all textures' together."""

    covered: float
    """that any triangle shows"""
    overlap: float
    """of the covered area: that several triangles show"""
    outside: float
    """of the triangles: that reach out of the texture, where it repeats or ends"""


def measure_texels(contents: Contents) -> TexelUse | None:
    """Measure; None if nothing has a texture."""
    by_texture: dict[int, list[Part]] = defaultdict(list)
    for part in contents.parts:
        if part.surface.base_color_texture is not None and part.uvs is not None:
            by_texture[part.surface.base_color_texture].append(part)
    covered = several = outside = faces = 0
    for parts in by_texture.values():
        times = np.zeros((_SIDE, _SIDE), np.uint8)
        for part in parts:
            corners = _corners(part)
            cover(np.rint(corners * (_SIDE * SUBTEXEL)).astype(np.int64), times)
            astray = (corners < -_MARGIN) | (corners > 1.0 + _MARGIN)
            outside += int(np.count_nonzero(astray.any(axis=(1, 2))))
            faces += len(corners)
        covered += int(np.count_nonzero(times))
        several += int(np.count_nonzero(times > 1))
    if not by_texture:
        return None
    return TexelUse(
        covered / (_SIDE * _SIDE * len(by_texture)),
        several / covered if covered else 0.0,
        outside / faces,
    )


def _corners(part: Part) -> Floats:
    assert part.uvs is not None
    # Far outside is far outside; a larger number would not fit the counting.
    return np.clip(part.uvs, -4.0, 4.0)[part.faces]
