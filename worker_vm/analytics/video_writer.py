"""Pictures into an H.264 video that a browser plays at once."""

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from worker_vm.analytics.boxes import Frame

_TIME_BASE = Fraction(1, 90_000)
_LOWEST_RATE = Fraction(1, 1000)
_KEYFRAME_SECONDS = 2
_CRF = 23
# ITU-T H.273: matrix coefficients of BT.601, which is what OpenCV computes; values of 16 to 235.
_BT601 = 6
_LIMITED_RANGE = 1


class VideoWriter:
    """An MP4 with its table in front (`faststart`), 4:2:0, each picture at its own time.

    Args:
        path: where to; made anew.
        width: of all pictures; even.
        height: of all pictures; even.
        rate: frames a second, about, above 0; one in 1000 seconds is the least that is written.
        preset: of x264: how much time it may take.
        threads: of x264.
        comment: goes into the file.

    Raises:
        OSError: the file cannot be written; so do the methods.
    """

    def __init__(
        self,
        path: Path,
        width: int,
        height: int,
        *,
        rate: float,
        preset: str,
        threads: int,
        comment: str,
    ) -> None:
        self._container = av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
        self._container.metadata["comment"] = comment
        nominal = max(Fraction(rate).limit_denominator(1001), _LOWEST_RATE)
        self._stream = self._container.add_stream(
            "libx264", rate=nominal, options={"preset": preset, "crf": str(_CRF)}
        )
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = "yuv420p"
        context = self._stream.codec_context
        context.time_base = _TIME_BASE
        context.thread_count = threads
        context.gop_size = max(round(rate * _KEYFRAME_SECONDS), 1)
        context.colorspace, context.color_range = _BT601, _LIMITED_RANGE
        context.color_primaries, context.color_trc = _BT601, _BT601
        self._frame_ticks = max(round(1 / (nominal * _TIME_BASE)), 1)
        self._last = -1

    def write(self, picture: Frame, seconds: float) -> None:
        """Add a picture.

        Args:
            picture: [height, width, 3], blue, green, red.
            seconds: from the video's start; a picture that would not be later than the last one
                comes right after it.
        """
        planes: np.ndarray = cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420)
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        self._last = max(round(seconds / _TIME_BASE), self._last + 1)
        frame.pts, frame.time_base, frame.duration = self._last, _TIME_BASE, self._frame_ticks
        self._container.mux(self._stream.encode(frame))

    def finish(self) -> None:
        """Write what is still to come, and the table."""
        self._container.mux(self._stream.encode(None))
        self._container.close()

    def close(self) -> None:
        """Give the file up; nothing happens if it is finished."""
        self._container.close()
