"""By how much a camera that should stand still has moved."""

import cv2
import numpy as np
from numpy.typing import NDArray

_ROUGH, _FINE = 160, 320
"""About how wide the pictures are that are compared, in pixels."""
_ROUNDS = 3
_EDGE = 8
_LEAST = 32
"""Of smaller pictures nothing is told."""
_OUTLIER = 30.0


class CameraShake:
    """Finds how far frames are off the background, in pixels.

    Phase correlation at low resolution finds the shift roughly (Kuglin and Hines 1975), least
    squares over the picture's gradients finely (Lucas and Kanade 1981).
    """

    def __init__(self, reference: NDArray[np.uint8]) -> None:
        self._halving = max(1, reference.shape[1] // _FINE)
        self._last = np.zeros(2)
        self.refer_to(reference)

    def refer_to(self, reference: NDArray[np.uint8]) -> None:
        """Compare with another picture [height, width, 3] from now on."""
        self._fine = self._grey(reference)
        self._rough = _lowered(self._fine, max(1, self._fine.shape[1] // _ROUGH))
        sides = max(self._rough.shape[1], 2), max(self._rough.shape[0], 2)
        self._window = cv2.createHanningWindow(sides, cv2.CV_32F)
        self._across = cv2.Sobel(self._fine, cv2.CV_32F, 1, 0, scale=1 / 8)
        self._down = cv2.Sobel(self._fine, cv2.CV_32F, 0, 1, scale=1 / 8)

    def shift(
        self, frame: NDArray[np.uint8], mask: NDArray[np.uint8] | None
    ) -> tuple[float, float]:
        """Return how far to the right and down what a frame shows is off the reference.

        A shift of an eighth of the picture and more is not believed: it is 0 then.

        Args:
            frame: uint8 [height, width, 3].
            mask: not 0 where something was in the way lately.
        """
        grey = self._grey(frame)
        if min(grey.shape) < _LEAST:
            return 0.0, 0.0
        factor = max(1, grey.shape[1] // _ROUGH)
        found, _ = cv2.phaseCorrelate(self._rough, _lowered(grey, factor), self._window)
        if mask is not None:
            mask = mask[:: self._halving, :: self._halving][: grey.shape[0], : grey.shape[1]]
        shift = self._best(grey, mask, [np.zeros(2), self._last, np.array(found) * factor])
        for _ in range(_ROUNDS):
            rest = self._rest(grey, mask, shift)
            shift += rest
            if rest @ rest < 0.02**2:
                break
        self._last = shift
        x, y = (shift * self._halving).tolist()
        return x, y

    def _best(
        self,
        grey: NDArray[np.float32],
        mask: NDArray[np.uint8] | None,
        shifts: list[NDArray[np.float64]],
    ) -> NDArray[np.float64]:
        """Return the shift with which a frame differs least: patterns mislead correlation."""
        believable = np.array(grey.shape[::-1]) / 8
        costs = {
            number: float(np.abs(self._off(grey, mask, shift)[0]).mean())
            for number, shift in enumerate(shifts)
            if (np.abs(shift) <= believable).all()
        }
        return shifts[min(costs, key=costs.__getitem__)].copy()

    def _rest(
        self,
        grey: NDArray[np.float32],
        mask: NDArray[np.uint8] | None,
        shift: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Return what a shift lacks."""
        off, usable = self._off(grey, mask, shift)
        some = np.s_[_EDGE:-_EDGE, _EDGE:-_EDGE]
        usable &= np.abs(off) < _OUTLIER
        off = off[usable]
        slopes = np.stack([self._across[some].ravel()[usable], self._down[some].ravel()[usable]])
        normal = slopes @ slopes.T
        if np.linalg.det(normal) < 1.0:
            return np.zeros(2)
        # Where a bit is still missing, the difference is the slope times that.
        rest: NDArray[np.float64] = np.linalg.solve(normal, slopes @ off)
        return np.clip(rest, -2.0, 2.0)

    def _off(
        self,
        grey: NDArray[np.float32],
        mask: NDArray[np.uint8] | None,
        shift: NDArray[np.float64],
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return by how much a frame differs once it is moved back, and where that counts."""
        back = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
        moved = cv2.warpAffine(
            grey, back, grey.shape[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )  # fmt: skip
        some = np.s_[_EDGE:-_EDGE, _EDGE:-_EDGE]
        here, there = self._fine[some].ravel(), moved[some].ravel()
        usable = np.ones(here.shape, bool) if mask is None else mask[some].ravel() == 0
        ratio = here[usable].mean() / max(float(there[usable].mean()), 1.0) if usable.any() else 1.0
        return np.where(usable, here - there * ratio, 0).astype(np.float32), usable

    def _grey(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY).astype(np.float32)
        return _lowered(grey, self._halving)


def _lowered(grey: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    size = (grey.shape[1] // factor, grey.shape[0] // factor)
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.float32)
