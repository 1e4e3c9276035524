"""When a decoded frame is shown, where the container may not have known."""

from typing import Any


class FrameClock:
    """Trusts whichever of a frame's two times has gone backwards less often.

    As FFmpeg's `guess_correct_pts` (libavcodec/decode.c), which PyAV does not offer: AVI, for one,
    knows only when frames are decoded.

    Args:
        origin: the container's start, in ticks.
        step: how long a frame lasts if nothing is known of it, in ticks.
        suspicious: whether its presentation time is known to be wrong.
    """

    def __init__(self, origin: int, step: int, *, suspicious: bool) -> None:
        self._origin = origin
        self._step = step
        self._last_pts: int | None = None
        self._last_dts: int | None = None
        self._faulty_pts = int(suspicious)
        self._faulty_dts = 0
        self._last = -step

    def tick(self, frame: Any) -> int:
        """When the next frame is shown, from the origin."""
        pts, dts = frame.pts, frame.dts
        if dts is not None:
            self._faulty_dts += self._last_dts is not None and dts <= self._last_dts
            self._last_dts = dts
        elif pts is not None:
            self._last_dts = pts
        if pts is not None:
            self._faulty_pts += self._last_pts is not None and pts <= self._last_pts
            self._last_pts = pts
        elif dts is not None:
            self._last_pts = dts
        # The last frames have no dts. FFmpeg trusts even a faulty pts then, and loses their order.
        time = pts if self._faulty_pts <= self._faulty_dts and pts is not None else dts
        self._last = self._last + self._step if time is None else int(time) - self._origin
        return self._last
