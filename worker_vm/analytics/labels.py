"""Words for pictures: smooth letters, kept once they are drawn."""

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from worker_vm.analytics.boxes import Frame

Colour = tuple[int, int, int]
"""Blue, green, red."""

_KEPT = 1024
_LONGEST = 120
_DARK: Colour = (24, 20, 16)
_WHITE: Colour = (255, 255, 255)
_BRIGHT = 150


@lru_cache(maxsize=_KEPT)
def _letters(text: str, size: int) -> NDArray[np.float32]:
    """How much each pixel of [height, width, 1] is covered by letters, 0 to 1."""
    font = _font(size)
    left, _, right, _ = font.getbbox(text)
    rise, fall = font.getmetrics()
    image = Image.new("L", (max(int(right - left) + 2, 1), rise + fall), 0)
    ImageDraw.Draw(image).text((1 - left, rise), text, font=font, fill=255, anchor="ls")
    return (np.asarray(image, np.float32) / np.float32(255))[..., None]


@lru_cache(maxsize=32)
def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which has Latin, Greek, Cyrillic and more; `supervision` brings it along."""
    found = find_spec("matplotlib")
    assert found is not None
    assert found.origin is not None
    path = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(path), size)


def line_height(size: int) -> int:
    """How high a line of letters is, in pixels."""
    return sum(_font(size).getmetrics())


def text_width(text: str, size: int) -> int:
    """How wide it is, in pixels."""
    return int(_letters(text[:_LONGEST], size).shape[1])


def write(picture: Frame, text: str, place: tuple[int, int], size: int, colour: Colour) -> None:
    """Write a text, its upper left corner at (x, y); what lies outside of the picture is cut."""
    if not text:
        return
    cover = _letters(text[:_LONGEST], size)
    x, y = place
    height, width = picture.shape[:2]
    top, left = max(-y, 0), max(-x, 0)
    bottom, right = min(height - y, cover.shape[0]), min(width - x, cover.shape[1])
    if top >= bottom or left >= right:
        return
    part = cover[top:bottom, left:right]
    under = picture[y + top : y + bottom, x + left : x + right]
    under[:] = (under * (1 - part) + np.array(colour, np.float32) * part + 0.5).astype(np.uint8)


def tag(picture: Frame, text: str, place: tuple[int, int], size: int, colour: Colour) -> None:
    """Write a text on a plate of a colour that stands on (x, y), inside of the picture."""
    pad = max(size // 4, 2)
    width, height = text_width(text, size) + 2 * pad, line_height(size) + 2
    x = min(max(place[0], 0), max(picture.shape[1] - width, 0))
    y = min(max(place[1] - height, 0), max(picture.shape[0] - height, 0))
    picture[y : y + height, x : x + width] = colour
    blue, green, red = colour
    is_bright = 0.114 * blue + 0.587 * green + 0.299 * red > _BRIGHT
    write(picture, text, (x + pad, y + 1), size, _DARK if is_bright else _WHITE)
