"""The decoder's side of the pipe: frames become pictures, records and previews."""

import queue
import threading
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Self

from worker_vm.video.pictures import Look, PictureMaker
from worker_vm.video.records import Record, send
from worker_vm.video.sampling import Selector
from worker_vm.video.thumbnails import Thumbnails

_MOST_WAITING = 2
"""Frames that are decoded and not pictures yet; each holds its pixels."""


@dataclass(frozen=True)
class Timeline:
    """What ticks mean."""

    selector: Selector
    time_base: Fraction
    end: int
    """About when the last frame ends."""


class FrameSender:
    """Sends one try at all frames of a video, in a `with` of its own.

    Pictures are made beside the decoding of the next frames, if this process may have a thread for
    them. Leaving the `with` waits for them, or by an error drops those that are left.

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
        self._waiting: queue.Queue[tuple[Any, int, range] | None] = queue.Queue(_MOST_WAITING)
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._dropping = False
        self.sent = 0
        """How many frames have been given to it."""

    def __enter__(self) -> Self:
        thread = threading.Thread(target=self._make_all, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return self  # it is made to do with one
        self._thread = thread
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._thread is None:
            return
        self._dropping = kind is not None
        self._waiting.put(None)
        self._thread.join()
        self._thread = None
        if self._error is not None and kind is None:
            raise self._error

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
        self.sent += len(moments)
        if self._thread is None:
            self._make(frame, tick, moments)
        elif self._error is not None:
            raise self._error
        else:
            self._waiting.put((frame, tick, moments))

    def _make_all(self) -> None:
        while item := self._waiting.get():
            if self._dropping or self._error is not None:
                continue
            try:
                self._make(*item)
            except BaseException as error:  # noqa: BLE001  (raised again by whoever sends)
                self._error = error

    def _make(self, frame: Any, tick: int, moments: range) -> None:
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
