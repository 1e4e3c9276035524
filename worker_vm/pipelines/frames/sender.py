"""The decoder's side of the pipe: frames become pictures, records and previews."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from worker_vm.video.pictures import Look, PictureMaker
from worker_vm.video.records import Record, send
from worker_vm.video.sampling import Selector
from worker_vm.video.thumbnails import Thumbnails


@dataclass(frozen=True)
class Timeline:
    """What ticks mean."""

    selector: Selector
    time_base: Fraction
    end: int
    """About when the last frame ends."""


class FrameSender:
    """Sends one try at all frames of a video.

    Args:
        descriptor: of the pipe.
        look: how pictures should be.
        previews: which are wanted.
        timeline: of the video.
    """

    def __init__(
        self, descriptor: int, look: Look, previews: frozenset[str], timeline: Timeline
    ) -> None:
        self._descriptor = descriptor
        self._maker = PictureMaker(look)
        self._thumbnails = Thumbnails(previews)
        self._timeline = timeline
        self._poster_sent = False
        self.sent = 0
        """How many frames have been sent."""

    @property
    def seen(self) -> dict[str, Any]:
        """What the frames were found to be."""
        return self._maker.seen

    def send(self, frame: Any, tick: int, moments: range) -> None:
        """Send a frame for each moment that it answers; the picture only once.

        Raises:
            VideoError: it is larger than allowed.
        """
        if not moments:
            return
        image = self._maker.picture(frame)
        body = self._maker.encode(image)
        line = self._timeline
        for moment in moments:
            facts = {
                "target": round(float(line.selector.seconds(moment)), 6),
                "pts": round(float(tick * line.time_base), 6),
                "share": min(max(tick / line.end, 0), 1) if line.end > 0 else 0,
            }
            send(self._descriptor, Record("frame", facts, body))
            body = b""
        self.sent += len(moments)
        self._thumbnails.add(image)
        if self._thumbnails.poster_is_chosen:
            self._send_poster()

    def finish(self) -> None:
        """Send the previews that are not sent yet."""
        self._send_poster()
        for name, body in self._thumbnails.files():
            send(self._descriptor, Record("preview", {"name": name}, body))

    def _send_poster(self) -> None:
        found = None if self._poster_sent else self._thumbnails.poster()
        if found:
            send(self._descriptor, Record("preview", {"name": found[0]}, found[1]))
            self._poster_sent = True
