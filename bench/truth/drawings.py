"""Flat drawings on paper, as people send them."""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
_INK = (40, 36, 44)


def _place(canvas: Bytes, *points: tuple[float, float]) -> NDArray[np.int32]:
    return np.rint(np.array(points) * len(canvas)).astype(np.int32)


def _blob(
    canvas: Bytes,
    centre: tuple[float, float],
    radii: tuple[float, float],
    colour: tuple[int, int, int],
    turn: float = 0.0,
) -> None:
    (middle,) = _place(canvas, centre)
    (axes,) = _place(canvas, radii)
    cv2.ellipse(canvas, middle.tolist(), axes.tolist(), turn, 0, 360, colour, -1, cv2.LINE_AA)


def cat(canvas: Bytes) -> None:
    """A sitting cat seen from the front, with a face."""
    fur, belly = (236, 150, 70), (252, 226, 190)
    cv2.ellipse(canvas, _place(canvas, (0.72, 0.72))[0].tolist(),
                _place(canvas, (0.13, 0.13))[0].tolist(), 0, -60, 150, fur,
                round(0.05 * len(canvas)), cv2.LINE_AA)  # fmt: skip
    _blob(canvas, (0.5, 0.68), (0.19, 0.24), fur)
    _blob(canvas, (0.5, 0.72), (0.1, 0.16), belly)
    for side in (-1, 1):
        ear = [(0.5 + side * x, y) for x, y in ((0.18, 0.1), (0.05, 0.22), (0.19, 0.3))]
        cv2.fillPoly(canvas, [_place(canvas, *ear)], fur, cv2.LINE_AA)
        _blob(canvas, (0.5 + side * 0.11, 0.9), (0.09, 0.045), fur)
    _blob(canvas, (0.5, 0.34), (0.21, 0.17), fur)
    for side in (-1, 1):
        _blob(canvas, (0.5 + side * 0.08, 0.32), (0.028, 0.036), _INK)
        _blob(canvas, (0.5 + side * 0.07, 0.31), (0.009, 0.009), (255, 255, 255))
    _blob(canvas, (0.5, 0.385), (0.022, 0.015), (220, 100, 110))


def heart(canvas: Bytes) -> None:
    """A heart."""
    t = np.linspace(0, 2 * np.pi, 200)
    x = 0.5 + 0.023 * 16 * np.sin(t) ** 3
    y = 0.48 - 0.023 * (13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    cv2.fillPoly(canvas, [_place(canvas, *zip(x, y, strict=True))], (214, 40, 70), cv2.LINE_AA)
    _blob(canvas, (0.33, 0.33), (0.06, 0.035), (246, 150, 160), -35)


def rocket(canvas: Bytes) -> None:
    """A rocket with a window and fins."""
    fins = [(0.5, 0.55), (0.26, 0.86), (0.42, 0.8), (0.58, 0.8), (0.74, 0.86)]
    cv2.fillPoly(canvas, [_place(canvas, *fins)], (210, 60, 50), cv2.LINE_AA)
    _blob(canvas, (0.5, 0.84), (0.06, 0.09), (250, 180, 40))
    _blob(canvas, (0.5, 0.48), (0.15, 0.38), (80, 130, 190))
    _blob(canvas, (0.5, 0.38), (0.07, 0.07), (245, 245, 240))
    _blob(canvas, (0.5, 0.38), (0.05, 0.05), (30, 50, 90))


def sprout(canvas: Bytes) -> None:
    """A flower on a stalk with two leaves."""
    green = (70, 150, 70)
    a, b = _place(canvas, (0.5, 0.35), (0.5, 0.92)).tolist()
    cv2.line(canvas, a, b, green, round(0.04 * len(canvas)), cv2.LINE_AA)
    for side in (-1, 1):
        _blob(canvas, (0.5 + side * 0.12, 0.72), (0.13, 0.05), green, side * -28)
    for number in range(7):
        angle = number * 2 * np.pi / 7
        petal = (0.5 + 0.14 * np.cos(angle), 0.3 + 0.14 * np.sin(angle))
        _blob(canvas, petal, (0.1, 0.07), (200, 90, 170), np.degrees(angle))
    _blob(canvas, (0.5, 0.3), (0.085, 0.085), (245, 205, 70))


DRAWINGS: dict[str, Callable[[Bytes], None]] = {
    "cat": cat, "heart": heart, "rocket": rocket, "sprout": sprout,
}  # fmt: skip


def draw(name: str, size: int = 640) -> Bytes:
    """Return a drawing (size, size, 4) on slightly grainy paper, opaque."""
    canvas = np.full((2 * size, 2 * size, 3), (236, 233, 224), np.uint8)
    DRAWINGS[name](canvas)
    small = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA).astype(np.float64)
    grain = np.random.default_rng(5).normal(0, 1.5, small.shape)
    rgb = np.clip(small + grain, 0, 255).astype(np.uint8)
    return np.dstack([rgb, np.full((size, size), 255, np.uint8)])
