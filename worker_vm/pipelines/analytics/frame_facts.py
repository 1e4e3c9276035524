"""A frame as the confined decoder sent it, checked: the decoder has read a hostile file."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from worker_vm.analytics.boxes import Frame
from worker_vm.video.raw_frames import LONGEST_SIDE
from worker_vm.video.records import Record, RecordError

_LONGEST_UPRIGHT_SIDE = 1 << 16
"""Of the video itself."""


@dataclass(frozen=True)
class FrameFacts:
    """A frame, and what was told of it."""

    pixels: Frame
    """[height, width, 3], both even; read only."""
    upright_size: tuple[int, int]
    """Width and height of the video, as it is looked at."""
    number: int
    """Of the frame in the video, from 0 on."""
    time_s: float
    """When it is shown, in seconds from the video's start."""

    @classmethod
    def of(cls, record: Record, max_width: int) -> Self:
        """Check a record `frame` or `sample`; the latter has neither number nor time.

        Raises:
            RecordError: it is no such thing.
        """
        names = ("width", "height", "upright_width", "upright_height")
        width, height, upright_width, upright_height = (_length(record, name) for name in names)
        is_too_large = width > max_width or height > LONGEST_SIDE
        if is_too_large or width % 2 or height % 2 or len(record.body) != width * height * 3:
            raise RecordError("a frame whose size is wrong")
        is_sample = record.type == "sample"
        return cls(
            np.frombuffer(record.body, np.uint8).reshape(height, width, 3),
            (upright_width, upright_height),
            0 if is_sample else int(record.number("number")),
            0.0 if is_sample else record.moment("pts"),
        )


def _length(record: Record, name: str) -> int:
    value = record.number(name)
    if not 0 < value <= _LONGEST_UPRIGHT_SIDE or value != int(value):
        raise RecordError(f"a frame without a {name}")
    return int(value)
