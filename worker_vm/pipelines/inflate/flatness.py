"""Whether a picture shows something flat, told by where it is shaded.

All over a round thing the surface turns, and so does its brightness; a flat one is even but for its
edge, which turns away from the front within a narrow band and is lit from one side, as a painted
outline never is. A drawing is shaded nowhere, so it tells nothing.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from worker_vm.pipelines.inflate.membrane import PADDING, Array, Bools, Silhouette

Profile = Literal["auto", "round", "flat"]

DEPTH = 1.25
"""Half a plate's depth against its edge's width: an edge is rounded less than it could be."""
_USUAL_EDGE = 0.15
"""Of the inner radius, where the caller says flat and the picture does not tell more."""
# In natural logarithms of the light, over a way as long as the silhouette's inner radius.
_EVEN = 0.1
"""Below, the middle is flat: over a ball the light of the camera's side alone changes by 0.2 or
more."""
_LIT = 0.5
"""Above, the rim is lit from one side."""
_PAINTED = 0.1
"""Change per cell, all three colours together, that is a painted edge."""
_TINTED = 0.06
"""Change per cell of the colours against their mean."""
_FLANK = 3  # cells beside such an edge that its blur reaches
_LEAST_UNPAINTED = 0.2
_RIM = 0.25  # of the inner radius
_OUTLINE = 3.5  # cells along the outline whose colours come from further in
_STEEPEST = 6.0  # what is steeper is painted
_ENDS = 0.25  # of the band's strongest shading
_LEAST_RADIUS = 12.0  # cells
_BLACK = 0.02
_GAMMA = 2.2


def edge_width(rgb: NDArray[np.uint8], shape: Silhouette, profile: Profile) -> float | None:
    """Return in cells how far a flat thing's edge reaches in, or None for a round one.

    Args:
        rgb: (height, width, 3), sRGB, the cut-out's colours, filled past its outline.
        shape: its silhouette.
        profile: what the caller says; `auto` means flat only where the picture clearly shows it.
    """
    if profile == "round":
        return None
    shading = _Shading(_light(rgb, shape), shape.inside)
    if shading.radius < _LEAST_RADIUS or not shading.middle_is_even():
        lit = (0.0, 0.0)
    else:
        lit = shading.lit_from()
    if np.hypot(*lit) >= _LIT:
        return shading.band(lit)
    return _USUAL_EDGE * shading.radius if profile == "flat" else None


def _light(rgb: NDArray[np.uint8], shape: Silhouette) -> NDArray[np.float32]:
    """Return logarithms of linear light (h, w, 3) on the silhouette's grid."""
    height, width = (side - 2 * PADDING for side in shape.level.shape)
    linear = ((rgb / np.float32(255.0)) ** np.float32(_GAMMA)).astype(np.float32)
    small = cv2.resize(linear, (width, height), interpolation=cv2.INTER_AREA)
    around = ((PADDING, PADDING), (PADDING, PADDING), (0, 0))
    return np.asarray(np.log(np.pad(small, around, mode="edge") + np.float32(_BLACK)))


@dataclass(frozen=True)
class _Shading:
    """How the light changes over a silhouette; slopes are per inner radius."""

    light: NDArray[np.float32]
    inside: Bools

    @cached_property
    def depth(self) -> Array:
        """Cells to the outline. OpenCV's last bits differ from call to call."""
        away = cv2.distanceTransform(
            self.inside.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE
        )
        return np.sqrt(np.round(np.asarray(away, np.float64) ** 2))

    @cached_property
    def radius(self) -> float:
        return float(self.depth.max())

    @cached_property
    def slopes(self) -> tuple[Array, Array]:
        grey = np.log(np.exp(self.light.astype(np.float64)).mean(axis=2))
        down, across = np.gradient(cv2.GaussianBlur(grey, (0, 0), 1.0))
        return across * self.radius, down * self.radius

    @cached_property
    def outwards(self) -> tuple[Array, Array]:
        down, across = np.gradient(cv2.GaussianBlur(self.depth, (0, 0), 1.5))
        length = np.hypot(across, down) + 1e-6
        return -across / length, -down / length

    @cached_property
    def towards_rim(self) -> Array:
        """Slope towards the outline."""
        (across, down), (x, y) = self.slopes, self.outwards
        return np.clip(across * x + down * y, -_STEEPEST, _STEEPEST)

    def middle_is_even(self) -> bool:
        """Whether the light hardly changes there, painted edges and grain left out."""
        known = self.inside & ~self.painted & (self.depth > _OUTLINE)
        middle = self.depth > 0.5 * self.radius
        if (known & middle).sum() < max(_LEAST_UNPAINTED * middle.sum(), 30):
            return False
        wide = self.radius / 8.0
        weight = cv2.GaussianBlur(known.astype(np.float64), (0, 0), wide) + 1e-6
        mean = [
            cv2.GaussianBlur(np.where(known, slope, 0.0), (0, 0), wide) / weight
            for slope in self.slopes
        ]
        return float(np.percentile(np.hypot(*mean)[known & middle], 80)) < _EVEN

    def lit_from(self) -> tuple[float, float]:
        """Fit the rim's shading by one light: its direction, as long as the light is strong."""
        rim = (self.depth > _OUTLINE) & (self.depth < _RIM * self.radius) & ~self.tinted
        x, y = self.outwards
        terms = np.stack([np.ones(int(rim.sum())), x[rim], y[rim]], axis=1)
        (_, across, down), *_ = np.linalg.lstsq(terms, self.towards_rim[rim], rcond=None)
        return float(across), float(down)

    def band(self, lit: tuple[float, float]) -> float:
        """Return how many cells from the outline that light's shading ends."""
        x, y = self.outwards
        explained = self.towards_rim * (lit[0] * x + lit[1] * y)
        known = self.inside & ~self.tinted
        steps = np.floor(self.depth).astype(np.int64)[known]
        strength = np.bincount(steps, explained[known]) / np.maximum(np.bincount(steps), 1)
        first = int(np.ceil(_OUTLINE))
        reach = strength[first : max(first + 1, round(0.5 * self.radius))]
        return float(first + 1 + np.flatnonzero(reach >= _ENDS * reach.max())[-1])

    @cached_property
    def tinted(self) -> Bools:
        """Painted edges that change the hue, which no shading does, and cells beside them."""
        return _near(_steepness(self.light - self.light.mean(axis=2, keepdims=True)) > _TINTED)

    @cached_property
    def painted(self) -> Bools:
        """Painted edges, what is shaded as steeply, and cells beside them."""
        return _near(_steepness(self.light) > _PAINTED)


def _steepness(layers: NDArray[np.float32]) -> Array:
    soft = cv2.GaussianBlur(layers, (0, 0), 1.5)
    across, down = (cv2.Sobel(soft, cv2.CV_32F, *a, scale=0.125) for a in ((1, 0), (0, 1)))
    return np.asarray(np.sqrt((across**2 + down**2).sum(axis=2)))


def _near(edges: Bools) -> Bools:
    size = np.ones((2 * _FLANK + 1,) * 2, np.uint8)
    return np.asarray(cv2.dilate(edges.astype(np.uint8), size) > 0)
