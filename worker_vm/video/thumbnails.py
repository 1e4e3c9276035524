"""Small pictures of a video: a poster, a contact sheet and a short animation."""

import io
from collections.abc import Iterator
from typing import Any

from PIL import Image, ImageStat

_SIDE = 240
_MOST = 48
_MOST_MOVING = 24
_COLUMNS = 6
_POSTER_SIDE = 1280
_POSTER_CANDIDATES = 10
_FRAME_MS = 250


class Thumbnails:
    """Keeps evenly spread small pictures of a stream whose length nobody knows.

    Args:
        wanted: poster, sprite, webp.
    """

    def __init__(self, wanted: frozenset[str]) -> None:
        self._wanted = wanted
        self._kept: list[Image.Image] = []
        self._stride = 1
        self._seen = 0
        self._poster: Image.Image | None = None
        self._liveliness = -1.0

    def add(self, image: Image.Image) -> None:
        """See the next picture."""
        number = self._seen
        self._seen += 1
        candidate = "poster" in self._wanted and number < _POSTER_CANDIDATES
        wanted = bool(self._wanted & {"sprite", "webp"}) and number % self._stride == 0
        if not (candidate or wanted):
            return
        small = _shrunk(image, _SIDE, Image.Resampling.BILINEAR)
        if candidate:
            self._consider(image, small)
        if wanted:
            self._kept.append(small)
            if len(self._kept) > _MOST:
                self._kept = self._kept[::2]
                self._stride *= 2

    @property
    def poster_is_chosen(self) -> bool:
        """Whether no later picture can become the poster."""
        return self._seen == _POSTER_CANDIDATES

    def poster(self) -> tuple[str, bytes] | None:
        """The liveliest of the first pictures: many videos begin in black."""
        if self._poster is None:
            return None
        return "poster", _saved(self._poster, "JPEG", quality=88)

    def files(self) -> Iterator[tuple[str, bytes]]:
        """The contact sheet and the animation."""
        if not self._kept:
            return
        if "sprite" in self._wanted:
            yield "sprite", _saved(self._sheet(), "JPEG", quality=85)
        if "webp" in self._wanted:
            step = -(-len(self._kept) // _MOST_MOVING)
            size = self._kept[0].size
            first, *rest = [image.resize(size) for image in self._kept[::step]]
            yield (
                "webp",
                _saved(
                    first,
                    "WEBP",
                    save_all=True,
                    append_images=rest,
                    duration=_FRAME_MS,
                    loop=0,
                    quality=70,
                    method=2,
                ),
            )

    def _consider(self, image: Image.Image, small: Image.Image) -> None:
        liveliness = sum(ImageStat.Stat(small).stddev)
        if liveliness > self._liveliness:
            self._liveliness = liveliness
            self._poster = _shrunk(image, _POSTER_SIDE, Image.Resampling.BICUBIC)

    def _sheet(self) -> Image.Image:
        width, height = self._kept[0].size
        columns = min(_COLUMNS, len(self._kept))
        rows = -(-len(self._kept) // columns)
        sheet = Image.new("RGB", (columns * width, rows * height))
        for number, image in enumerate(self._kept):
            place = (number % columns * width, number // columns * height)
            sheet.paste(image.resize((width, height)), place)
        return sheet


def _shrunk(image: Image.Image, side: int, how: Image.Resampling) -> Image.Image:
    """A picture of its own, no wider and no higher than `side`."""
    scale = min(side / max(image.size), 1)
    size = tuple(max(round(length * scale), 1) for length in image.size)
    return image.resize(size, how, reducing_gap=2.0).convert("RGB")  # type: ignore[arg-type]


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()
