"""A video in which it is known who walks where."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np


@dataclass(frozen=True)
class Walk:
    """A figure that walks across a still street, from left to right, and stays for a while."""

    seconds: float = 6.0
    rate: int = 15
    size: tuple[int, int] = (320, 180)
    rest: tuple[float, float] = (2.0, 3.5)
    """From when to when it stands still, in seconds."""
    sign: str = ""
    colour: tuple[int, int, int] = (30, 40, 210)

    def foot(self, time_s: float) -> tuple[float, float]:
        """Where it stands."""
        width, height = self.size
        begun, ended = self.rest
        walked = min(time_s, begun) + max(time_s - ended, 0)
        share = walked / (self.seconds - (ended - begun))
        return width * (0.1 + 0.8 * share), height * 0.8

    def frames(self) -> Iterator[np.ndarray]:
        """The pictures."""
        width, height = self.size
        rng = np.random.default_rng(7)
        street = cv2.resize(
            rng.integers(90, 140, (9, 16, 3), np.uint8), self.size, interpolation=cv2.INTER_CUBIC
        )
        if self.sign:
            size = height / 300
            cv2.putText(street, self.sign, (width // 10, height // 4), 0, size, (255, 255, 255), 2)
        for number in range(round(self.seconds * self.rate)):
            picture = street.copy()
            x, y = self.foot(number / self.rate)
            high, wide = height * 0.4, width * 0.06
            corner = round(x - wide / 2), round(y - high)
            cv2.rectangle(picture, corner, (round(x + wide / 2), round(y)), self.colour, -1)
            yield picture

    def write(self, path: Path) -> Path:
        """Make the video."""
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=self.rate, options={"crf": "20"})
            stream.width, stream.height = self.size
            stream.pix_fmt = "yuv420p"
            for number, picture in enumerate(self.frames()):
                frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
                frame.pts, frame.time_base = number, Fraction(1, self.rate)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path
