"""How much a mask looks like a subject: marks from 0 to 1, and the score made of them."""

from dataclasses import dataclass

import cv2
import numpy as np

from worker_vm.cutout.raster import Bools, Bytes, Floats, disc
from worker_vm.cutout.seeds import FOREIGN, Scene

_CLEAR_EDGE = 14.0  # CIELAB units across the outline, over the background's own unrest
_BINS = 8


@dataclass(frozen=True)
class Score:
    """Marks of one mask, each 0…1."""

    edge: float
    """how clearly colours change across the outline"""
    colour: float
    """how little the colours inside and around it overlap"""
    whole: float
    """the kept piece's share of all that was marked"""
    smooth: float
    """how little the outline frays"""
    captured: float
    """the share of what is foreign to the border's colours that lies inside"""
    contrast: float
    """median difference of colour across the outline (CIELAB); not a mark"""

    @property
    def total(self) -> float:
        """The marks in one number."""
        return float(self.edge * self.whole * self.captured * np.sqrt(self.colour * self.smooth))


def score(scene: Scene, mask: Bools, raw: Bools) -> Score:
    """Mark a mask.

    Args:
        scene: the picture.
        mask: its subject, one piece.
        raw: the same before other pieces were dropped.
    """
    steps, unrest = _across(scene.lab, mask)
    near = cv2.dilate(mask.astype(np.uint8), disc(20)) > 0
    foreign = scene.foreign * scene.allowed
    return Score(
        edge=float(np.clip(steps / (_CLEAR_EDGE + unrest), 0.0, 1.0).mean()) if len(steps) else 0.0,
        colour=1.0 - _overlap(scene.small, mask, near & ~mask),
        whole=float((mask & raw).sum() / max(1, int(raw.sum()))),
        smooth=_smoothness(mask),
        captured=float((foreign[mask].sum() + FOREIGN) / (foreign.sum() + FOREIGN)),
        contrast=float(np.median(steps)) if len(steps) else 0.0,
    )


def _across(colours: Floats, mask: Bools) -> tuple[Floats, float]:
    """Return the colour's step at each pixel of the outline, and the unrest around (CIELAB)."""
    solid = mask.astype(np.uint8)
    inner = mask & (cv2.erode(solid, disc(4)) == 0)
    outer = ~mask & (cv2.dilate(solid, disc(4)) > 0)
    inside, outside = (_average(colours, side) for side in (inner, outer))
    line = inner & (cv2.erode(solid, disc(1)) == 0)
    beyond = ~mask & (cv2.dilate(solid, disc(24)) > 0)
    if not beyond.any():
        return np.zeros(0, np.float32), 0.0
    smooth = np.asarray(cv2.GaussianBlur(colours, (0, 0), 2.0))
    unrest = float(np.linalg.norm(np.std(smooth[beyond & ~outer], axis=0))) if (
        beyond & ~outer
    ).any() else 0.0  # fmt: skip
    return np.asarray(np.linalg.norm(inside[line] - outside[line], axis=1)), unrest


def _average(colours: Floats, where: Bools) -> Floats:
    """Mean of the pixels of `where` about each pixel."""
    weight = where.astype(np.float32)
    total = cv2.GaussianBlur(colours * weight[..., None], (0, 0), 4.0)
    return np.asarray(total / (cv2.GaussianBlur(weight, (0, 0), 4.0)[..., None] + 1e-4))


def _overlap(small: Bytes, inside: Bools, outside: Bools) -> float:
    """Bhattacharyya's coefficient of the two colour histograms."""
    cells = (small.astype(np.int64) * _BINS) // 256
    index = (cells[..., 0] * _BINS + cells[..., 1]) * _BINS + cells[..., 2]
    shares = [
        np.bincount(index[side], minlength=_BINS**3) / max(1, int(side.sum()))
        for side in (inside, outside)
    ]
    return float(np.sqrt(shares[0] * shares[1]).sum())


def _smoothness(mask: Bools) -> float:
    """Return how much shorter the outline gets when it is smoothed."""
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 2.5) > 0.5  # noqa: PLR2004
    return min(1.0, _perimeter(np.asarray(soft)) / max(1.0, _perimeter(mask)))


def _perimeter(mask: Bools) -> float:
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    return float(sum(cv2.arcLength(line, closed=True) for line in outlines))
