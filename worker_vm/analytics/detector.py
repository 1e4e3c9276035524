"""What a detector is: the interface between frames and boxes."""

from collections.abc import Sequence
from typing import Protocol

from worker_vm.analytics.boxes import Detections, Frame


class Detector(Protocol):
    """Finds things in the frames of one video, which it is given in order.

    A detector belongs to one video: make a new one for the next. The same frames give the same
    detections. No frame may be kept or changed by the caller's side while a call runs; a
    detector keeps none of them afterwards.
    """

    @property
    def names(self) -> Sequence[str]:
        """What `class_id` means, by index."""

    @property
    def warm_up_frames(self) -> int:
        """How many frames `warm_up` would like to have; 0 if it needs none."""

    def warm_up(self, frames: Sequence[Frame]) -> None:
        """Learn how the scene looks, before the first `detect`; calling it is optional.

        Args:
            frames: about `warm_up_frames` (fewer are fine) of the same size as those to come,
                spread evenly over the video or, if it is long, over its first minute. Keyframes
                serve, so they are cheap to get by seeking.
        """

    def detect(self, frame: Frame, index: int, time_s: float) -> Detections:
        """Return what is in the frame.

        Args:
            frame: uint8 [height, width, 3], blue, green, red; always of the same size.
            index: number of the frame in the video, rising; some may be left out.
            time_s: when it is shown, in seconds from the video's start, rising.
        """
