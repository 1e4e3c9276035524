"""People and cars as sprites: colour and coverage, for every phase of their gait."""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Kind = Literal["person", "car"]
PHASES = 8
"""Pictures per double step."""
_TALL = 240
_MARGIN = 8


@dataclass(frozen=True)
class Sprite:
    """One picture of a figure that stands on the middle of the lower edge."""

    colour: Bytes
    """[height, width, 3]."""
    cover: Floats
    """[height, width], 0 to 1."""


def person(rng: np.random.Generator) -> list[Sprite]:
    """Draw someone in clothes of random colours, once per phase of the gait."""
    hair, skin = _colour(rng, 20, 90), rng.integers((70, 100, 150), (150, 180, 230))
    shirt, trousers, shoes = _colour(rng, 20, 240), _colour(rng, 20, 160), _colour(rng, 10, 90)
    weave = rng.normal(0, 9, (_TALL + 2 * _MARGIN, 160, 1)).astype(np.float32)
    stripes = rng.random() < 0.4
    return [
        _person(phase, (hair, skin, shirt, trousers, shoes), weave, stripes=stripes)
        for phase in range(PHASES)
    ]


def car(rng: np.random.Generator) -> list[Sprite]:
    """Draw a car from the side; it has no gait."""
    width, height = 420, 150
    picture = np.zeros((height + 2 * _MARGIN, width + 2 * _MARGIN, 3), np.uint8)
    cover = np.zeros(picture.shape[:2], np.uint8)
    at = np.array([_MARGIN, _MARGIN])
    body = np.array(
        [[0, 75], [70, 65], [120, 5], [290, 5], [340, 60], [420, 75], [420, 130], [0, 130]]
    )
    glass = np.array([[90, 62], [130, 15], [280, 15], [320, 60]])
    for shape, colour in ((body, _colour(rng, 30, 230)), (glass, np.array([70, 60, 50]))):
        cv2.fillPoly(picture, [shape + at], colour.tolist(), cv2.LINE_AA)
        cv2.fillPoly(cover, [shape + at], 255, cv2.LINE_AA)
    for x in (90, 330):
        cv2.circle(picture, (_MARGIN + x, _MARGIN + 122), 28, (25, 25, 25), -1, cv2.LINE_AA)
        cv2.circle(picture, (_MARGIN + x, _MARGIN + 122), 12, (140, 140, 140), -1, cv2.LINE_AA)
        cv2.circle(cover, (_MARGIN + x, _MARGIN + 122), 28, 255, -1, cv2.LINE_AA)
    return [Sprite(picture, cover.astype(np.float32) / 255)]


def _colour(rng: np.random.Generator, low: int, high: int) -> NDArray[np.int64]:
    return rng.integers(low, high, 3)


def _person(
    phase: int, colours: tuple[NDArray[np.int64], ...], weave: Floats, *, stripes: bool
) -> Sprite:
    hair, skin, shirt, trousers, shoes = (colour.tolist() for colour in colours)
    size = (_TALL + 2 * _MARGIN, 160)
    picture = np.zeros((*size, 3), np.uint8)
    cover = np.zeros(size, np.uint8)
    swing = np.sin(2 * np.pi * phase / PHASES)
    ground, hip, neck, middle = _MARGIN + _TALL, _MARGIN + 125, _MARGIN + 45, 80

    def limb(start: tuple[int, int], end: tuple[int, int], colour: list[int], width: int) -> None:
        cv2.line(picture, start, end, colour, width, cv2.LINE_AA)
        cv2.line(cover, start, end, 255, width, cv2.LINE_AA)

    for side in (-1, 1):
        foot = (round(middle + side * swing * 34), ground - 8)
        limb((middle + side * 8, hip), foot, trousers, 22)
        limb(foot, (foot[0] + 6, ground - 6), shoes, 12)
        hand = (round(middle - side * swing * 30 + side * 8), hip + 5)
        limb((middle + side * 24, neck + 16), hand, shirt, 14)
        limb(hand, (hand[0], hand[1] + 4), skin, 12)
    torso = (middle - 30, neck, middle + 30, hip + 8)
    cv2.rectangle(picture, torso[:2], torso[2:], shirt, -1)
    cv2.rectangle(cover, torso[:2], torso[2:], 255, -1)
    if stripes:
        picture[neck + 20 : hip : 24, middle - 30 : middle + 30] //= 2
        picture[neck + 24 : hip : 24, middle - 30 : middle + 30] //= 2
    head = (middle, _MARGIN + 24)
    cv2.ellipse(picture, head, (18, 23), 0, 0, 360, skin, -1, cv2.LINE_AA)
    cv2.ellipse(picture, (middle, _MARGIN + 16), (18, 15), 0, 180, 360, hair, -1, cv2.LINE_AA)
    cv2.ellipse(cover, head, (18, 23), 0, 0, 360, 255, -1, cv2.LINE_AA)
    cloth = np.clip(picture + weave, 0, 255).astype(np.uint8)
    return Sprite(cloth, cover.astype(np.float32) / 255)
