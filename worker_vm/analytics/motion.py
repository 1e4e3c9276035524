"""Finds what moves before a camera that stands still, without any learnt weights."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from worker_vm.analytics.background import SAMPLES, Background
from worker_vm.analytics.boxes import Detections, Frame
from worker_vm.analytics.camera import CameraShake
from worker_vm.analytics.figures import Figure, Figures, Mask, Scene
from worker_vm.analytics.foreground import find_blobs

_LONG_SIDE = 640
"""Frames are reduced, by a whole factor, to at most so many pixels."""
_CHANGED, _CHANGED_S = 0.6, 0.5
"""If so much of the picture differs for so long, it shows another scene."""
_ALONE, _TOGETHER = 0.9, 0.7


@dataclass
class _View:
    """What is known of the scene."""

    background: Background
    camera: CameraShake
    mask: Mask | None = None
    changed_since: float | None = None


class MotionDetector:
    """Finds what moves; its only class is `moving`.

    Frames are compared, at reduced size, with the median of earlier ones, moved to where the camera
    was and brought to its light; what is only darker in the same colours is shadow. What has merged
    is told apart by how it looked before (`figures`). It needs a camera that stands still but may
    tremble, and a scene that is not all in motion. Its answers come without delay. A thing shows
    from its third frame on, and until it has stood still for a minute and a half.
    """

    names = ("moving",)
    warm_up_frames = SAMPLES

    def __init__(self) -> None:
        self._view: _View | None = None
        self._figures = Figures()

    def warm_up(self, frames: Sequence[Frame]) -> None:
        """Learn the background; without, what moves in the first seconds may be found twice."""
        if not frames:
            return
        reduced = [self._reduced(frame) for frame in frames]
        camera = CameraShake(reduced[len(reduced) // 2])
        placed = [_moved(frame, camera.shift(frame, None)) for frame in reduced]
        self._look_at(Background(placed))

    def detect(self, frame: Frame, index: int, time_s: float) -> Detections:
        """Return what moves in the frame."""
        del index
        reduced = self._reduced(frame)
        view = self._view or self._look_at(Background([reduced]))
        shift = view.camera.shift(reduced, view.mask)
        placed = _moved(reduced, shift)
        gain = view.background.light(placed, view.mask)
        mask, blobs = find_blobs(placed, view.background, gain)
        covered = np.asarray(cv2.dilate(mask, np.ones((5, 5), np.uint8)), np.uint8)
        view.mask = covered
        if self._is_another_scene(view, mask, time_s):
            self._look_at(Background([reduced]))
            return Detections.none()
        figures = self._figures.find(Scene(placed, mask, time_s), blobs)
        figures = self._without_ghosts(view, figures, placed, mask, gain)
        if view.background.learn(placed, covered, gain, time_s):
            view.camera.refer_to(view.background.picture)
        factor = frame.shape[1] / reduced.shape[1], frame.shape[0] / reduced.shape[0]
        boxes = np.array([figure.course.box for figure in figures], np.float32).reshape(-1, 4)
        boxes = (boxes + np.tile(shift, 2)) * np.tile(factor, 2)
        limits = np.tile(frame.shape[1::-1], 2)
        sure = [_ALONE if figure.is_alone else _TOGETHER for figure in figures]
        return Detections(
            np.clip(boxes, 0, limits).astype(np.float32),
            np.array(sure, np.float32),
            np.zeros(len(figures), np.int32),
        )

    def _look_at(self, background: Background) -> _View:
        self._view = _View(background, CameraShake(background.picture))
        self._figures = Figures()
        return self._view

    def _without_ghosts(
        self,
        view: _View,
        figures: Sequence[Figure],
        placed: Frame,
        mask: Mask,
        gain: NDArray[np.float32],
    ) -> list[Figure]:
        """Take back what is no thing, but the place of one that the background wrongly shows."""
        real = []
        for figure in figures:
            left, top, right, bottom = (round(edge) for edge in figure.course.box)
            part = np.s_[top:bottom, left:right]
            if (
                figure.is_alone
                and figure.course.is_still
                and view.background.shows_edges(part, placed, mask)
            ):
                view.background.uncover(part, placed, mask, gain)
                self._figures.forget(figure)
            else:
                real.append(figure)
        return real

    @staticmethod
    def _reduced(frame: Frame) -> Frame:
        height, width = frame.shape[:2]
        factor = -(-max(height, width) // _LONG_SIDE)
        size = (max(width // factor, 1), max(height // factor, 1))
        small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA) if factor > 1 else frame
        return np.asarray(cv2.GaussianBlur(small, (3, 3), 0), np.uint8)

    @staticmethod
    def _is_another_scene(view: _View, mask: Mask, time_s: float) -> bool:
        if np.count_nonzero(mask) < _CHANGED * mask.size:
            view.changed_since = None
            return False
        if view.changed_since is None:
            view.changed_since = time_s
        return time_s - view.changed_since >= _CHANGED_S


def _moved(frame: Frame, shift: tuple[float, float]) -> Frame:
    """Return what the frame would show if the camera had not moved by `shift`."""
    if max(abs(shift[0]), abs(shift[1])) < 0.1:  # noqa: PLR2004  (nothing would change)
        return frame
    back = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
    placed = cv2.warpAffine(
        frame, back, frame.shape[1::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    return np.asarray(placed, np.uint8)
