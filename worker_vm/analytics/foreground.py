"""Which parts of a frame are something else than the background."""

import cv2
import numpy as np
from numpy.typing import NDArray

from worker_vm.analytics import motion_kernels
from worker_vm.analytics.background import Background
from worker_vm.analytics.boxes import Frame
from worker_vm.analytics.figures import Mask, Rect

_WEAK, _STRONG = 14.0, 28.0
"""Differences, of 255, from which on a pixel may belong to something, and surely does."""
_SHADES = (0.35, 0.97)
"""The darkest and the lightest shadow, as a share of the light."""
_SHADE_OFF = 9.0
"""How far a shadow's colour may be from the background's."""
_SLACK = 0.25
"""Which share of the background's steepness a pixel may be off: no camera is quite in place."""
_WINDOW = 9
"""The side of the squares in which a shadow must show the background's texture."""
_ALIKE = 0.35
"""How much (correlation) a shadow must resemble what it falls on."""
_FLAT = 9.0
"""The variance below which there is no texture to compare, only noise."""
_ASIDE = 0.15
"""How much further to each side than its sure part a thing may reach, as a share of its width."""
_SMALLEST = 0.0007
"""Which share of the picture's pixels moves at least, if anything does."""
_SURE = 0.1
"""Which share of a blob must differ strongly."""


def find_blobs(
    frame: Frame, background: Background, gain: NDArray[np.float32]
) -> tuple[Mask, list[Rect]]:
    """Return where something is, without shadows, specks and holes, and the boxes around it.

    Args:
        frame: uint8 [height, width, 3], in the background's place.
        background: what is known of the scene.
        gain: how much brighter than the background the frame is, per channel.
    """
    labels = np.empty(frame.shape[:2], np.uint8)
    slack = background.steepness * np.float32(_SLACK)
    limits = np.array([_WEAK, _STRONG, *_SHADES, _SHADE_OFF], np.float32)
    motion_kernels.classify(frame, background.picture, gain, slack, limits, labels)
    _unmask(labels, frame, background)
    return _connected(labels)


def _unmask(labels: Mask, frame: Frame, background: Background) -> None:
    """Correct what passes for shadow but hides the background's texture: it is something grey."""
    shade = (labels == motion_kernels.SHADOW).astype(np.uint8)
    left, top, width, height = cv2.boundingRect(shade)
    if not width:
        return
    part = np.s_[top : top + height, left : left + width]
    here = cv2.cvtColor(np.ascontiguousarray(frame[part]), cv2.COLOR_BGR2GRAY).astype(np.float32)
    there = background.grey[part].astype(np.float32)

    own = shade[part].astype(np.float32)
    count = np.maximum(cv2.blur(own, (_WINDOW, _WINDOW)), 1e-3)

    def mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Average over the shadow's own pixels around each."""
        averaged: NDArray[np.float32] = cv2.blur(values * own, (_WINDOW, _WINDOW)) / count
        return averaged

    mean_here, mean_there = mean(here), mean(there)
    spread_here = mean(here * here) - mean_here * mean_here
    spread_there = mean(there * there) - mean_there * mean_there
    common = mean(here * there) - mean_here * mean_there
    differs = common < _ALIKE * np.sqrt(np.maximum(spread_here * spread_there, 1e-6))
    wrong = (own != 0) & differs & (spread_there > _FLAT)
    labels[part][wrong & _above_or_below(labels)[part]] = motion_kernels.WEAK


def _above_or_below(labels: Mask) -> NDArray[np.bool_]:
    """Return where the rest of what shows without doubt may be: in the same columns, about."""
    sure = (labels >= motion_kernels.WEAK).astype(np.uint8)
    outlines, _ = cv2.findContours(sure, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    allowed = np.zeros(labels.shape, bool)
    for outline in outlines:
        left, top, width, height = cv2.boundingRect(outline)
        if width * height >= _SMALLEST * labels.size:
            aside = round(_ASIDE * width)
            rows = slice(max(top - height, 0), top + 3 * height)
            allowed[rows, max(left - aside, 0) : left + width + aside] = True
    return allowed


def _connected(labels: Mask) -> tuple[Mask, list[Rect]]:
    moving = (labels >= motion_kernels.WEAK).astype(np.uint8)
    # Odd sides: kernels with even ones move what they smooth.
    unit = max(1, round(labels.shape[0] / 120))
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    mask = cv2.morphologyEx(moving, cv2.MORPH_OPEN, cross)
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((4 * unit - 1, 2 * unit + 1), np.uint8))
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    filled = np.zeros(labels.shape, np.uint8)
    rects = []
    for outline in outlines:
        left, top, width, height = cv2.boundingRect(outline)
        if cv2.contourArea(outline) < _SMALLEST * mask.size:
            continue
        part = np.s_[top : top + height, left : left + width]
        own = np.zeros((height, width), np.uint8)
        cv2.drawContours(own, [outline], -1, 1, cv2.FILLED, offset=(-left, -top))
        strong = np.count_nonzero(labels[part][own != 0] == motion_kernels.STRONG)
        if strong < _SURE * np.count_nonzero(own):
            continue
        filled[part] |= own
        rects.append((left, top, left + width, top + height))
    return filled, rects
