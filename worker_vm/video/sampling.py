"""Which frames of a video answer which moments. Whole numbers only: nothing is rounded by chance.

Times are in ticks of the stream's time base, counted from the origin (the container's start).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from math import ceil

from worker_vm.video.problems import VideoCode, VideoError

FINEST = 1000
"""Denominators of rates and times: 29.97 stays 29.97, and 1/3 as a float is 1/3."""


def exact(value: float) -> Fraction:
    """The simple fraction that a number stands for."""
    return Fraction(value).limit_denominator(FINEST)


class Sample(StrEnum):
    """How frames are chosen."""

    AT_TIME = "at_time"
    """What is on screen at 0, 1, 2 … s: the last frame that does not begin later."""
    FFMPEG_NEAR = "ffmpeg_near"
    """As FFmpeg's filter `fps` does with its default rounding: at 0.5, 1.5 … s."""
    KEYFRAMES = "keyframes"
    """Every keyframe."""


@dataclass(frozen=True)
class Wish:
    """What is asked of a video."""

    sample: Sample
    fps: Fraction
    """Frames a second; 0 takes every frame."""
    start: Fraction
    end: Fraction | None
    """Of the wanted part, in seconds; the end itself is not in it."""
    max_frames: int | None
    """Stop after so many."""
    frame_limit: int
    """Refuse to make more than so many."""
    duplicate_limit: int
    """Refuse to fill a gap with more than so many copies of one frame."""

    @property
    def takes_each(self) -> bool:
        """Whether frames are taken as they come, not by the clock."""
        return self.sample is Sample.KEYFRAMES or self.fps == 0


class Selector:
    """Told of frames in the order in which they are shown, says which moments each answers.

    A frame is settled only when the next one is known, so answers come one frame late.

    Args:
        wish: what is asked for.
        time_base: seconds a tick.
    """

    def __init__(self, wish: Wish, time_base: Fraction) -> None:
        self._wish = wish
        self._time_base = time_base
        self._next: int | None = None
        self._taken = 0
        offset = wish.start * wish.fps if wish.sample is Sample.AT_TIME else Fraction(0)
        # Moment k is k / fps seconds, later by `start` if counted from there.
        scale = time_base * wish.fps
        self._factor = scale.numerator * offset.denominator
        self._summand = offset.numerator * scale.denominator
        self._divisor = scale.denominator * offset.denominator
        self._first, self._last = self._window()

    @property
    def done(self) -> bool:
        """Whether no later frame can be wanted."""
        if self._wish.max_frames is not None and self._taken >= self._wish.max_frames:
            return True
        return self._last is not None and self._next is not None and self._next >= self._last

    def seconds(self, moment: int) -> Fraction:
        """When a moment is; for frames taken as they come it is their own tick."""
        if self._wish.takes_each:
            return moment * self._time_base
        counted = Fraction(moment) / self._wish.fps
        return counted + (self._wish.start if self._wish.sample is Sample.AT_TIME else 0)

    def settle(self, tick: int, until: int) -> range:
        """The moments that a frame answers.

        Args:
            tick: when it begins.
            until: when the next one begins, or the last one ends.

        Raises:
            VideoError: FRAME_LIMIT, they are too many.
        """
        if self._wish.takes_each:
            moments = self._take_itself(tick)
        else:
            if self._next is None:
                self._next = self._first_moment(tick)
            stop = self._bound(until)
            if self._last is not None:
                stop = min(stop, self._last)
            moments = range(self._next, max(stop, self._next))
        if self._wish.max_frames is not None:
            moments = moments[: self._wish.max_frames - self._taken]
        self._check(moments)
        self._taken += len(moments)
        if moments and not self._wish.takes_each:
            self._next = moments.stop
        return moments

    def _check(self, moments: range) -> None:
        wish = self._wish
        if len(moments) > wish.duplicate_limit + 1:
            raise VideoError(
                VideoCode.FRAME_LIMIT,
                f"After {float(self.seconds(moments.start)):.3f} s one frame lasts so long that it"
                f" would be written {len(moments)} times; at most {wish.duplicate_limit} copies are"
                " made. Lower fps, or use sample keyframes.",
            )
        if self._taken + len(moments) > wish.frame_limit:
            raise VideoError(
                VideoCode.FRAME_LIMIT,
                f"This would be more than {wish.frame_limit} frames. Lower fps, set max_frames, or"
                " ask for a part with start_s and end_s.",
            )

    def _window(self) -> tuple[int, int | None]:
        """The first wanted moment, and the one after the last."""
        wish = self._wish
        if wish.takes_each:
            first = ceil(wish.start / self._time_base)
            return first, None if wish.end is None else ceil(wish.end / self._time_base)
        start = Fraction(0) if wish.sample is Sample.AT_TIME else wish.start
        shift = wish.start - start
        first = ceil(start * wish.fps)
        return first, None if wish.end is None else ceil((wish.end - shift) * wish.fps)

    def _take_itself(self, tick: int) -> range:
        self._next = tick
        wanted = tick >= self._first and (self._last is None or tick < self._last)
        return range(tick, tick + 1) if wanted else range(0)

    def _first_moment(self, tick: int) -> int:
        if self._wish.sample is Sample.AT_TIME:
            return 0
        return max(self._bound(tick), self._first)

    def _bound(self, tick: int) -> int:
        """The first moment that a frame which begins at `tick` may answer."""
        if self._wish.sample is Sample.AT_TIME:
            return -((self._summand - tick * self._factor) // self._divisor)
        # Halves away from zero, as AV_ROUND_NEAR_INF.
        twice, size = 2 * abs(tick) * self._factor, 2 * self._divisor
        near = (twice + self._divisor) // size
        return near if tick >= 0 else -near


def settle_all(selector: Selector, ticks: list[int], end: int) -> Iterator[tuple[int, range]]:
    """Each frame that answers something, of frames that are all known.

    Args:
        selector: a new one.
        ticks: when they begin, in order.
        end: when the last one ends.
    """
    for position, tick in enumerate(ticks):
        until = ticks[position + 1] if position + 1 < len(ticks) else max(end, tick)
        moments = selector.settle(tick, until)
        if moments:
            yield tick, moments
        if selector.done:
            return
