"""Layers: what lies in front of the body, such as an arm, is inflated by itself.

The caller outlines it. Its outline is drawn to the picture's own edges near by; then it is blown up
about a soap film that spans its outline at the body's height, so it lies half sunk in what is
behind it, and it runs out where it passes the body's own outline.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from worker_vm.cutout import Box
from worker_vm.cutout.raster import box_of
from worker_vm.guided_filter import guided_filter
from worker_vm.pipelines.base import PipelineError
from worker_vm.pipelines.inflate import membrane
from worker_vm.pipelines.inflate.heights import Heights
from worker_vm.pipelines.inflate.membrane import PADDING, Array, Operator, Silhouette

Outline = tuple[tuple[float, float], ...]
"""A polygon's corners, in fractions of the picture."""
Film = Callable[[Silhouette, Operator], Array]

_SNAP = 0.012
"""Of the cut-out's longer side: how far an outline drawn by hand may be off."""
_FRACTION_BITS = 4  # of corners' places
_ROOM = 24  # cells about a layer: as far as `membrane.inflate` looks


@dataclass(frozen=True)
class Body:
    """What layers are put in front of."""

    shape: Silhouette
    heights: Heights
    front: NDArray[np.uint8]
    """(h, w, 3), the cut-out's colours, filled past its outline"""
    window: Box
    """what the cut-out shows of the picture"""
    film: Film
    """blows up a silhouette"""


def layered(body: Body, outlines: Sequence[Outline]) -> list[Heights]:
    """Return the layers' heights, those in front last, as far as they belong to the body.

    Raises:
        PipelineError: LAYER_MISSED, an outline lies beside the subject.
    """
    stretch, relief = body.heights.stretch, body.heights.bumps
    highest = stretch * np.sqrt(np.maximum(body.heights.u, 0.0))
    deep = _inset(body.shape.level, 2) > 0.0
    result = []
    for number, outline in enumerate(outlines):
        whole = _within(body, outline)
        if int(whole.inside.sum()) < membrane.CELLS_NEEDED:
            raise _missed(number)
        window = box_of(whole.inside, _ROOM)
        shape = replace(whole, level=whole.level[window])
        operator = membrane.laplacian(shape)
        u = body.film(shape, operator)
        held = np.where(deep[window], highest[window], 0.0)
        base = np.where(shape.inside, operator.spanned(held), held)
        corner = (window[1].start, window[0].start)
        result.append(Heights(u, stretch, base + relief[window], corner))
        top = base + stretch * np.sqrt(np.maximum(u, 0.0))
        highest[window] = np.where(shape.inside, np.maximum(highest[window], top), highest[window])
    return result


def _within(body: Body, outline: Outline) -> Silhouette:
    """Rasterise an outline on the body's grid, and keep it off the body's own rim by a cell."""
    mask = _snapped(_drawn(outline, body), body.front)
    height, width = (side - 2 * PADDING for side in body.shape.level.shape)
    small = cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA)
    level = np.asarray(cv2.GaussianBlur(small, (0, 0), 1.0), np.float64) - 0.5
    level = np.pad(level, PADDING, constant_values=-0.5)
    level = np.minimum(level, _inset(body.shape.level, 1))
    if not (level > 0.0).any():
        return Silhouette(level, body.shape.scale)
    return Silhouette(membrane.single(level), body.shape.scale)


def _drawn(outline: Outline, body: Body) -> NDArray[np.float32]:
    """Return how much of each of the cut-out's pixels lies inside."""
    height, width = body.front.shape[:2]
    left, top, right, bottom = body.window
    corners = (np.array(outline) - (left, top)) / (right - left, bottom - top)
    places = np.rint((corners * (width, height) - 0.5) * 2**_FRACTION_BITS).astype(np.int32)
    canvas = np.zeros((height, width), np.uint8)
    cv2.fillPoly(canvas, [places], 255, cv2.LINE_AA, _FRACTION_BITS)
    return np.asarray(canvas, np.float32) / np.float32(255.0)


def _snapped(mask: NDArray[np.float32], front: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Draw a mask's outline to the picture's edges near by, and leave it where there are none."""
    if not mask.any():
        return mask
    reach = max(2, round(_SNAP * max(mask.shape)))
    radius = 2 * reach
    window = box_of(mask > 0.0, reach + 2 * radius + 2)  # what the filter looks at
    drawn = mask[window]
    matte = guided_filter(front[window], drawn, radius=radius)
    size = np.ones((2 * reach + 1,) * 2, np.uint8)
    solid = np.clip((matte - 0.5) * 2.2 + 0.5, 0.0, 1.0)
    snapped = mask.copy()
    snapped[window] = np.clip(solid, cv2.erode(drawn, size), cv2.dilate(drawn, size))
    return snapped


def _inset(level: Array, cells: int) -> Array:
    """Move an outline inwards."""
    return np.asarray(cv2.erode(level, np.ones((2 * cells + 1,) * 2, np.uint8)), np.float64)


def _missed(number: int) -> PipelineError:
    return PipelineError(
        "LAYER_MISSED",
        f"layers.{number}: hardly any of this outline lies on the subject; give its corners as x "
        "and y in fractions of the picture, from its upper left corner.",
        permanent=True,
    )
