"""Small synthetic pictures for the pipeline tests."""

import io
import struct
import zlib
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Bytes = NDArray[np.uint8]
PAPER = (224, 222, 214)


def scene(draw: Callable[[Bytes], None], *, size: int = 320, colour=PAPER, noise=1.5) -> Bytes:
    """A subject on slightly noisy paper, opaque (size, size, 3)."""
    random = np.random.default_rng(4)
    paper = np.empty((2 * size, 2 * size, 3), np.uint8)
    paper[:] = colour
    draw(paper)
    small = cv2.resize(paper, (size, size), interpolation=cv2.INTER_AREA)
    return np.clip(small + random.normal(0, noise, small.shape), 0, 255).astype(np.uint8)


def scaled(canvas: Bytes, *points: tuple[float, float]) -> list[tuple[int, int]]:
    """Points in fractions as pixels."""
    height, width = canvas.shape[:2]
    return [(round(x * width), round(y * height)) for x, y in points]


def ball(canvas: Bytes) -> None:
    """A red ball, lighter at the upper left."""
    side = len(canvas)
    y, x = np.mgrid[:side, :side] / side
    inside = np.hypot(x - 0.5, y - 0.5) < 0.3
    light = np.clip(1.15 - 1.3 * np.hypot(x - 0.4, y - 0.4), 0.4, 1.0)[..., None]
    canvas[inside] = (np.array([225, 60, 50]) * light)[inside].astype(np.uint8)


def figure(canvas: Bytes) -> None:
    """Tall and lopsided: blue with a yellow foot to the right, so that directions show."""
    (a, b) = scaled(canvas, (0.42, 0.15), (0.58, 0.85))
    cv2.rectangle(canvas, a, b, (40, 80, 190), -1)
    (c, d) = scaled(canvas, (0.55, 0.68), (0.82, 0.85))
    cv2.rectangle(canvas, c, d, (240, 200, 30), -1)


def ring(canvas: Bytes) -> None:
    """A green ring."""
    side = len(canvas)
    cv2.circle(
        canvas, (side // 2, side // 2), round(0.28 * side), (40, 150, 70), round(0.15 * side)
    )


def two_balls(canvas: Bytes) -> None:
    """Two things of the same size."""
    side = len(canvas)
    for x, colour in ((0.28, (200, 50, 50)), (0.72, (50, 50, 200))):
        cv2.circle(canvas, (round(x * side), side // 2), round(0.14 * side), colour, -1)


def frame(canvas: Bytes) -> None:
    """A subject that runs into three sides of the picture."""
    (a, b) = scaled(canvas, (0.0, 0.3), (1.0, 1.0))
    cv2.rectangle(canvas, a, b, (40, 40, 140), -1)


def cut_free(rgb: Bytes, alpha: NDArray[np.generic]) -> Bytes:
    """Add an alpha channel (0…255)."""
    return np.dstack([rgb, alpha.astype(np.uint8)])


def encode(pixels: Bytes, kind: str = "PNG", **options: object) -> bytes:
    """A picture's file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def png_claiming(width: int, height: int, data: bytes) -> bytes:
    """A PNG with any size in its header, whatever follows."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            chunk(b"IDAT", data),
            chunk(b"IEND", b""),
        )
    )
