"""A plot of times over numbers of jobs, both axes logarithmic, drawn with Pillow."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

_SCALE = 2  # drawn larger than it is, for smooth lines
_WIDTH, _HEIGHT = 800 * _SCALE, 460 * _SCALE
_LEFT, _RIGHT, _TOP, _BOTTOM = (side * _SCALE for side in (75, 215, 50, 60))
_INK, _GRID = "#222222", "#dddddd"
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")


class _Paper:
    """A sheet with two logarithmic axes."""

    def __init__(self, sizes: Sequence[int], values: Sequence[float]) -> None:
        self.sizes = sizes
        self.low = math.floor(math.log10(min(values)))
        self.high = math.ceil(math.log10(max(values)))
        self.image = Image.new("RGB", (_WIDTH, _HEIGHT), "white")
        self.pen = ImageDraw.Draw(self.image)
        self.font = ImageFont.load_default(12 * _SCALE)

    def at(self, size: float, value: float) -> tuple[float, float]:
        """Where a value stands on the sheet."""
        first, last = math.log10(self.sizes[0]), math.log10(self.sizes[-1])
        across = (math.log10(size) - first) / (last - first)
        up = (math.log10(value) - self.low) / (self.high - self.low)
        return (
            _LEFT + across * (_WIDTH - _LEFT - _RIGHT),
            _HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM),
        )

    def draw_axes(self) -> None:
        """Draw the grid and what it says."""
        for power in range(self.low, self.high + 1):
            for step in range(1, 10 if power < self.high else 2):
                value = step * 10.0**power
                left, right = self.at(self.sizes[0], value), self.at(self.sizes[-1], value)
                self.pen.line([left, right], _GRID, _SCALE if step == 1 else 1)
                if step in {1, 3}:
                    place = (left[0] - 8 * _SCALE, left[1])
                    self.pen.text(place, f"{value:g} ms", _INK, self.font, anchor="rm")
        for size in self.sizes:
            bottom, top = self.at(size, 10.0**self.low), self.at(size, 10.0**self.high)
            self.pen.line([bottom, top], _GRID, 1)
            place = (bottom[0], bottom[1] + 8 * _SCALE)
            self.pen.text(place, f"{size:,}".replace(",", " "), _INK, self.font, anchor="ma")
        place = ((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 26 * _SCALE)
        self.pen.text(place, "jobs in the table", _INK, self.font, anchor="ma")

    def draw_lines(self, lines: Mapping[str, Sequence[float]]) -> None:
        """Draw each line, and its name at its end, no two names over each other."""
        lowest = float(_HEIGHT)
        by_end = sorted(zip(lines.items(), _COLOURS, strict=False), key=lambda it: it[0][1][-1])
        for (name, values), colour in by_end:
            points = [self.at(*pair) for pair in zip(self.sizes, values, strict=True)]
            self.pen.line(points, colour, 2 * _SCALE, joint="curve")
            for point in points:
                self.pen.circle(point, 3.5 * _SCALE, colour)
            lowest = min(points[-1][1], lowest - 17 * _SCALE)
            self.pen.text(
                (points[-1][0] + 12 * _SCALE, lowest), name, colour, self.font, anchor="lm"
            )


def draw_plot(
    path: Path, title: str, sizes: Sequence[int], lines: Mapping[str, Sequence[float]]
) -> None:
    """Draw milliseconds over numbers of jobs, one line for each name, into a picture file."""
    paper = _Paper(sizes, [value for line in lines.values() for value in line])
    paper.pen.text((_LEFT, 14 * _SCALE), title, _INK, ImageFont.load_default(15 * _SCALE))
    paper.draw_axes()
    paper.draw_lines(lines)
    size = (_WIDTH // _SCALE, _HEIGHT // _SCALE)
    paper.image.resize(size, Image.Resampling.LANCZOS).save(path, optimize=True)
