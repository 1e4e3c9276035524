"""Reading what is written in the picture, where it has changed.

`rapidocr` with the models of its package (PP-OCRv6); it runs offline.
"""

import difflib
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from worker_vm.analytics.boxes import Box, Frame

_CELL = 32
"""Pixels a side of the squares that are asked for changes."""
_CHANGE = 12.0
"""Grey levels by which a square must have changed to be read again."""
_SMALL_STEP = 4
_WHOLE = 0.6
"""From this share of the picture on, all of it is read."""
_LONGEST_SIDE = 736
"""To which the picture is scaled down where text is looked for."""
_LEAST_SCORE = 0.75
_SAME = 0.8
"""How alike two texts in the same place must be to be one, read differently."""
_MOST_TEXTS = 1000
_HIGHEST = 0.4
"""Of the picture's height; whole figures are taken for letters too."""
_LONGEST_TEXT = 500
_SHORTEST_TEXT = 2
"""Edges and poles are taken for single letters."""


@dataclass(frozen=True)
class Reading:
    """A text that was read, and where."""

    text: str
    score: float
    """How sure that is, 0 to 1."""
    box: Box
    """In pixels of the frame."""


@dataclass
class Text:
    """A text of the video."""

    text: str
    score: float
    box: Box
    first_s: float
    last_s: float
    readings: int = 1


Engine = Callable[[Frame], list[Reading]]


class TextReader:
    """Reads the frames that it is given, and remembers what it has read.

    Args:
        engine: reads a picture.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._before: NDArray[np.float32] | None = None
        self.texts: list[Text] = []
        """What has been read, each text once, the first thousand."""
        self.is_cut = False
        """Whether there was more."""

    def read(self, frame: Frame, time_s: float) -> list[Text]:
        """Read what has changed since the last call; the texts that are new."""
        changed = self._changed(frame)
        if changed is None:
            return []
        left, top, right, bottom = changed
        found = []
        for reading in self._engine(np.ascontiguousarray(frame[top:bottom, left:right])):
            x1, y1, x2, y2 = reading.box
            if y2 - y1 > _HIGHEST * frame.shape[0]:
                continue
            box = x1 + left, y1 + top, x2 + left, y2 + top
            new = self._remember(Reading(reading.text, reading.score, box), time_s)
            if new is not None:
                found.append(new)
        return found

    def _changed(self, frame: Frame) -> tuple[int, int, int, int] | None:
        """The part of the frame that must be read again: left, top, right, bottom."""
        height, width = frame.shape[:2]
        small = frame[::_SMALL_STEP, ::_SMALL_STEP, 1].astype(np.float32)
        before, self._before = self._before, small
        if before is None:
            return 0, 0, width, height
        columns, rows = -(-width // _CELL), -(-height // _CELL)
        cells = cv2.resize(np.abs(small - before), (columns, rows), interpolation=cv2.INTER_AREA)
        hit_rows, hit_columns = np.nonzero(cells > _CHANGE)
        if not len(hit_rows):
            return None
        # A square more all around, so that words are not cut.
        left = max((int(hit_columns.min()) - 1) * _CELL, 0)
        top = max((int(hit_rows.min()) - 1) * _CELL, 0)
        right = min((int(hit_columns.max()) + 2) * _CELL, width)
        bottom = min((int(hit_rows.max()) + 2) * _CELL, height)
        if (right - left) * (bottom - top) > _WHOLE * width * height:
            return 0, 0, width, height
        return left, top, right, bottom

    def _remember(self, reading: Reading, time_s: float) -> Text | None:
        """The text if it has not been read before."""
        key = _key(reading.text)
        if len(key) < _SHORTEST_TEXT or reading.score < _LEAST_SCORE:
            return None
        for known in self.texts:
            same = _key(known.text) == key
            if same or (_overlap(known.box, reading.box) and _alike(_key(known.text), key)):
                known.last_s = time_s
                known.readings += 1
                if reading.score > known.score:
                    known.text, known.score = reading.text[:_LONGEST_TEXT], reading.score
                known.box = reading.box
                return None
        if len(self.texts) == _MOST_TEXTS:
            self.is_cut = True
            return None
        text = Text(reading.text[:_LONGEST_TEXT], reading.score, reading.box, time_s, time_s)
        self.texts.append(text)
        return text


def make_engine(threads: int) -> Engine:
    """The reader of `rapidocr`; takes a moment.

    Args:
        threads: of its networks.
    """
    from rapidocr import RapidOCR  # noqa: PLC0415  (slow to import; not every run reads)

    networks = "EngineConfig.onnxruntime"
    reader = RapidOCR(
        params={
            "Global.use_cls": False,  # for text upside down; half of the time
            "Global.log_level": "critical",
            "Det.limit_side_len": _LONGEST_SIDE,
            "Det.limit_type": "max",
            f"{networks}.intra_op_num_threads": threads,
            f"{networks}.inter_op_num_threads": 1,
        }
    )

    def read(picture: Frame) -> list[Reading]:
        answer = reader(picture)
        if answer.txts is None or answer.boxes is None or answer.scores is None:
            return []
        return [
            Reading(_printable(text), float(score), _bounds(corners))
            for text, score, corners in zip(answer.txts, answer.scores, answer.boxes, strict=True)
        ]

    return read


def _bounds(corners: Sequence[Sequence[float]]) -> Box:
    points = np.asarray(corners, np.float64)
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    return float(left), float(top), float(right), float(bottom)


def _printable(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _key(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def _alike(one: str, other: str) -> bool:
    return difflib.SequenceMatcher(None, one, other, autojunk=False).ratio() >= _SAME


def _overlap(one: Box, other: Box) -> bool:
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return wide > 0 and high > 0
