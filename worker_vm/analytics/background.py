"""How the scene looks without what moves in it."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from worker_vm.analytics import motion_kernels
from worker_vm.analytics.boxes import Frame

SAMPLES = 21
_FIRST_S = 0.2
_LATER_S = 2.0
"""How far apart the samples are taken: at first, and once the scene is known."""
_ABSORBED_S = 90.0
"""What stands still for so long belongs to the scene."""
_GHOSTLY = 1.5
"""How much steeper a blob's outline must be in the background than in the frame, to be a ghost."""
_GRID = 6
"""Every how many pixels the light is measured."""


Mask = NDArray[np.uint8]


class Background:
    """The median of samples that are spread over about the last minute.

    Where something is in the way, a sample keeps what is known of the background; the median bears
    that less than half of the samples are wrong.

    Args:
        samples: some first frames, at least one, all of the same size; one alone is taken for the
            background as it is, and corrected soon.
    """

    def __init__(self, samples: Sequence[Frame]) -> None:
        self.picture = np.empty_like(samples[0])
        """The background, uint8 [height, width, 3]."""
        self._is_sure = len(samples) > SAMPLES // 2
        chosen = np.linspace(0, len(samples) - 1, SAMPLES).round().astype(int)
        self._samples = np.stack([samples[index] for index in chosen])
        self._covered_s = np.zeros(self.picture.shape[:2], np.float32)
        self._next = 0
        self._taken = 0
        self._time_s: float | None = None
        self._settle()

    def light(self, frame: Frame, mask: Mask | None) -> NDArray[np.float32]:
        """Return how much brighter than the background a frame is, per channel [3].

        Args:
            frame: uint8 [height, width, 3].
            mask: not 0 where something was in the way lately.
        """
        some = np.s_[_GRID // 2 :: _GRID, _GRID // 2 :: _GRID]
        now, then = frame[some].reshape(-1, 3), self.picture[some].reshape(-1, 3)
        usable = ((then > 24) & (now < 250)).all(axis=1)  # noqa: PLR2004  (nearly black, nearly white)
        if mask is not None:
            usable &= mask[some].ravel() == 0
        if np.count_nonzero(usable) < 50:  # noqa: PLR2004  (too few to tell)
            return np.ones(3, np.float32)
        shares = now[usable].astype(np.float32) / then[usable]
        gain: NDArray[np.float32] = np.median(shares, axis=0).astype(np.float32)
        return gain

    def learn(self, frame: Frame, mask: Mask, gain: NDArray[np.float32], time_s: float) -> bool:
        """Take a sample of a frame if it is time; tell whether the picture has changed.

        Args:
            frame: uint8 [height, width, 3].
            mask: not 0 where something is in the way.
            gain: from `light`; the sample is brought to the background's light.
            time_s: of the frame.
        """
        every = _LATER_S if self._is_sure else _FIRST_S
        if self._time_s is not None and time_s - self._time_s < every:
            return False
        elapsed = 0.0 if self._time_s is None else min(time_s - self._time_s, 2 * every)
        self._time_s = time_s
        covered = (mask != 0) & self._is_sure
        self._covered_s = np.where(covered, self._covered_s + np.float32(elapsed), np.float32(0))
        covered &= self._covered_s < _ABSORBED_S
        sample = np.clip(frame / gain, 0, 255).astype(np.uint8)
        self._samples[self._next] = np.where(covered[..., None], self.picture, sample)
        self._next = (self._next + 1) % SAMPLES
        self._taken += 1
        self._is_sure |= self._taken >= SAMPLES
        self._settle()
        return True

    def shows_edges(self, part: tuple[slice, slice], frame: Frame, mask: Mask) -> bool:
        """Tell whether a blob's outline is an edge in the background rather than in the frame.

        Then there is nothing: the background shows something that has gone (Cucchiara et al.,
        "Detecting Moving Objects, Ghosts, and Shadows in Video Streams", 2003).

        Args:
            part: rows and columns of the blob.
            frame: uint8 [height, width, 3].
            mask: not 0 where the blob is.
        """
        rows, columns = (slice(max(side.start - 3, 0), side.stop + 3) for side in part)
        blob = mask[rows, columns]
        outline = cv2.morphologyEx(blob, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) != 0
        grey = _grey(np.ascontiguousarray(frame[rows, columns]))
        if not outline.any():
            return False
        here = float(_steepness(grey)[outline].mean())
        there = float(self.steepness[rows, columns][outline].mean())
        return there > _GHOSTLY * here

    def uncover(
        self, part: tuple[slice, slice], frame: Frame, mask: Mask, gain: NDArray[np.float32]
    ) -> None:
        """Take a blob's place from the frame at once, where the background is known to be wrong."""
        rows, columns = (slice(max(side.start - 3, 0), side.stop + 3) for side in part)
        grown = cv2.dilate(mask[rows, columns], np.ones((5, 5), np.uint8)) != 0
        sample = np.clip(frame[rows, columns] / gain, 0, 255).astype(np.uint8)
        self._samples[:, rows, columns][:, grown] = sample[grown]
        self._settle()

    def _settle(self) -> None:
        flat = self._samples.reshape(SAMPLES, -1)
        motion_kernels.median(flat, self.picture.reshape(-1))
        self.grey = _grey(self.picture)
        """The same without colours, uint8 [height, width]."""
        self.steepness = _steepness(self.grey)
        """By how much it changes around each pixel, uint8 [height, width]."""


def _grey(picture: Frame) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), np.uint8)


def _steepness(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(
        cv2.morphologyEx(grey, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)), np.uint8
    )
