"""Draw the sample video, a small square with people and a cyclist, and encode it.

`python devstack/samples/street.py street.mp4` writes it; `make demo-video` does so by itself. It
is drawn anew each time, the same each time: a door to count at, somebody who waits, two who pass
each other, one who is hidden for a moment, and words on a sign to read.

Needs the worker's packages and the optional group `video`.
"""

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]
Colour = tuple[int, int, int]

WIDTH, HEIGHT = 960, 540
FPS = 25
SECONDS = 14
DOOR = {"name": "door", "x1": 640, "y1": 250, "x2": 800, "y2": 345}
BENCH = {"name": "bench", "x1": 90, "y1": 330, "x2": 330, "y2": 470}
ZONES = [DOOR, BENCH]
"""Rectangles in pixels, as a job's parameters have them."""
SIGN = "CITY LIBRARY"

_KIOSK = 448.0
"""Where its foot is, in pixels from the top."""
_SUBPIXEL = 4
_PAVING, _JOINTS = (176, 184, 190), (160, 168, 174)
_WALL, _ROOF, _GLASS = (126, 152, 196), (84, 98, 132), (190, 168, 132)
_INK, _BOARD = (60, 44, 34), (236, 240, 244)


@dataclass(frozen=True)
class Walker:
    """Somebody on the square: where at which second, and what they wear (BGR)."""

    place: Callable[[float], tuple[float, float] | None]
    coat: Colour
    trousers: Colour
    wheels: bool = False


def _along(*stops: tuple[float, float, float]) -> Callable[[float], tuple[float, float] | None]:
    """A way through (second, x, y), at a constant pace from stop to stop; nowhere before, after."""

    def place(second: float) -> tuple[float, float] | None:
        for (t0, x0, y0), (t1, x1, y1) in pairwise(stops):
            if t0 <= second < t1:
                share = (second - t0) / (t1 - t0)
                return x0 + (x1 - x0) * share, y0 + (y1 - y0) * share
        return None

    return place


WALKERS = [
    # In at the left, to the door, and gone inside.
    Walker(
        _along((0.6, -40, 480), (5.4, 600, 430), (7.0, 720, 308), (7.8, 722, 306)),
        coat=(52, 60, 196),
        trousers=(70, 52, 44),
    ),
    # Out of the door, and away to the right; passes the first one.
    Walker(
        _along((2.8, 722, 306), (3.6, 720, 308), (5.2, 640, 420), (9.8, 1010, 500)),
        coat=(156, 88, 36),
        trousers=(52, 52, 58),
    ),
    # Comes, waits at the bench, goes on.
    Walker(
        _along((1.6, -40, 410), (4.2, 210, 410), (6.6, 212, 410), (11.0, 560, 590)),
        coat=(60, 150, 70),
        trousers=(92, 74, 60),
    ),
    # Rides through, hidden by the kiosk for a moment.
    Walker(
        _along((7.4, 1020, 455), (12.4, -90, 395)),
        coat=(32, 172, 232),
        trousers=(40, 40, 44),
        wheels=True,
    ),
]


def _square() -> Frame:
    """What stands still."""
    frame = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    frame[:] = _PAVING
    for number in range(12):  # paving, smaller with distance
        y = int(300 + 240 * (number / 12) ** 1.6)
        cv2.line(frame, (0, y), (WIDTH, y), _JOINTS, 1, cv2.LINE_AA)
    for number in range(-10, 28):
        foot = int(480 + (number * 68 - 480) * 1.9)
        cv2.line(frame, (number * 68, 300), (foot, HEIGHT), _JOINTS, 1, cv2.LINE_AA)
    frame[60:300] = _WALL
    frame[:60] = _ROOF
    for x in (60, 200, 340, 480, 840):
        cv2.rectangle(frame, (x, 110), (x + 84, 230), _INK, -1)
        cv2.rectangle(frame, (x + 5, 115), (x + 79, 225), _GLASS, -1)
    cv2.rectangle(frame, (662, 130), (778, 300), _INK, -1)
    cv2.rectangle(frame, (670, 138), (770, 300), (92, 104, 112), -1)
    cv2.rectangle(frame, (590, 66), (850, 112), _INK, -1)
    cv2.rectangle(frame, (594, 70), (846, 108), _BOARD, -1)
    (length, _), _ = cv2.getTextSize(SIGN, cv2.FONT_HERSHEY_DUPLEX, 0.95, 2)
    start = (720 - length // 2, 99)
    cv2.putText(frame, SIGN, start, cv2.FONT_HERSHEY_DUPLEX, 0.95, _INK, 2, cv2.LINE_AA)
    cv2.rectangle(frame, (110, 372), (290, 384), (58, 84, 120), -1)
    for x in (122, 272):
        cv2.rectangle(frame, (x, 384), (x + 8, 414), _INK, -1)
    grain = np.random.default_rng(7).normal(0, 3, frame.shape)
    return np.clip(cv2.GaussianBlur(frame, (3, 3), 0) + grain, 0, 255).astype(np.uint8)


def _kiosk(frame: Frame) -> None:
    """What stands before those who pass behind it."""
    cv2.rectangle(frame, (452, 330), (540, 452), (84, 108, 60), -1)
    cv2.rectangle(frame, (444, 318), (548, 336), (62, 84, 44), -1)
    cv2.rectangle(frame, (464, 352), (528, 396), (200, 206, 210), -1)


def _fill(frame: Frame, colour: Colour, *places: tuple[float, float]) -> None:
    points = np.round(np.array(places) * (1 << _SUBPIXEL)).astype(np.int32)
    cv2.fillPoly(frame, [points], colour, cv2.LINE_AA, _SUBPIXEL)


def _disc(frame: Frame, x: float, y: float, radius: float, colour: Colour) -> None:
    at = (round(x * 16), round(y * 16))
    cv2.circle(frame, at, round(radius * 16), colour, -1, cv2.LINE_AA, _SUBPIXEL)


def _draw(frame: Frame, walker: Walker, second: float) -> None:
    place = walker.place(second)
    if place is None:
        return
    x, y = place
    size = 0.55 + 0.45 * (y - 290) / 200  # smaller with distance
    next_x, _ = walker.place(second + 1 / FPS) or place
    stride = min(abs(next_x - x) * FPS / 100, 1)  # who stands keeps the feet still
    swing = math.sin(second * 9) * 9 * size * stride
    shadow = frame.copy()
    at, axes = (round(x), round(y)), (round(24 * size), round(7 * size))
    cv2.ellipse(shadow, at, axes, 0, 0, 360, (90, 94, 98), -1, cv2.LINE_AA)
    cv2.addWeighted(shadow, 0.45, frame, 0.55, 0, dst=frame)
    if walker.wheels:
        for wheel in (-26, 26):
            _disc(frame, x + wheel * size, y - 16 * size, 17 * size, (44, 44, 48))
            _disc(frame, x + wheel * size, y - 16 * size, 12 * size, (170, 176, 182))
        y -= 16 * size
    for side in (-1, 1):
        foot = x + side * swing
        hip = x + side * 5 * size
        _fill(
            frame,
            walker.trousers,
            *((hip - 6 * size, y - 52 * size), (hip + 6 * size, y - 52 * size)),
            *((foot + 5 * size, y), (foot - 5 * size, y)),
        )
    _fill(
        frame,
        walker.coat,
        *((x - 15 * size, y - 48 * size), (x - 12 * size, y - 98 * size)),
        *((x + 12 * size, y - 98 * size), (x + 15 * size, y - 48 * size)),
    )
    _disc(frame, x, y - 110 * size, 12 * size, (150, 178, 214))
    _disc(frame, x, y - 115 * size, 11 * size, (40, 52, 74))


def frames() -> Iterator[Frame]:
    """Every frame, as BGR of HEIGHT x WIDTH x 3."""
    square = _square()
    for number in range(FPS * SECONDS):
        second = number / FPS
        frame = square.copy()
        # Whatever is farther away is drawn first; the kiosk stands among the walkers.
        things: list[tuple[float, Callable[[], None]]] = [(_KIOSK, partial(_kiosk, frame))]
        things += [
            (place[1], partial(_draw, frame, walker, second))
            for walker in WALKERS
            if (place := walker.place(second))
        ]
        for _, draw in sorted(things, key=lambda thing: thing[0]):
            draw()
        yield frame


def write(path: Path) -> None:
    """Encode it as H.264 in an MP4."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height = WIDTH, HEIGHT
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, FPS)
        stream.options = {"crf": "20", "preset": "veryfast", "threads": "1"}
        for frame in frames():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="bgr24")))
        container.mux(stream.encode(None))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
