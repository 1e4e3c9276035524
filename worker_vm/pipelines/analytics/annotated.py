"""The annotated video and its previews, made in a thread beside the analysis."""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

from PIL import Image

from worker_vm.analytics.boxes import Frame
from worker_vm.analytics.drawing import Painter, Scene
from worker_vm.analytics.video_writer import VideoWriter
from worker_vm.pipelines.analytics.writing import writing
from worker_vm.video.thumbnails import Thumbnails

_THUMBNAIL_STEP_S = 0.5


@dataclass
class Effort:
    """CPU time of the thread, in seconds."""

    draw: float = 0.0
    encode: float = 0.0


class AnnotatedVideo:
    """Draws, encodes and makes previews of one frame while the next one is analysed.

    Leaving the `with` gives up what is not finished.

    Args:
        painter: draws.
        writer: encodes.
        previews: which are wanted.
    """

    def __init__(self, painter: Painter, writer: VideoWriter, previews: frozenset[str]) -> None:
        self._painter = painter
        self._writer = writer
        self._thumbnails = Thumbnails(previews)
        self._next_thumbnail_s = 0.0
        self._first_s: float | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="annotated")
        self._pending: Future[None] | None = None
        self.effort = Effort()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)
        self._writer.close()

    def add(self, frame: Frame, scene: Scene) -> None:
        """Add a frame; waits only for the one before.

        Raises:
            VideoError: OUTPUT_WRITE_ERROR.
        """
        self._await()
        self._pending = self._thread.submit(self._make, frame, scene)

    def finish(self) -> None:
        """Write the end of the video.

        Raises:
            VideoError: OUTPUT_WRITE_ERROR.
        """
        self._await()
        self._pending = self._thread.submit(self._writer.finish)
        self._await()

    def previews(self) -> Iterator[tuple[str, bytes]]:
        """What kind each preview is, and its file; once the video is finished."""
        poster = self._thumbnails.poster()
        if poster:
            yield poster
        yield from self._thumbnails.files()

    def _await(self) -> None:
        pending, self._pending = self._pending, None
        if pending is None:
            return
        with writing("the annotated video"):
            pending.result()

    def _make(self, frame: Frame, scene: Scene) -> None:
        begun = time.thread_time()
        picture = self._painter.draw(frame, scene)
        drawn = time.thread_time()
        if self._first_s is None:
            self._first_s = self._next_thumbnail_s = scene.time_s
        self._writer.write(picture, scene.time_s - self._first_s)
        if scene.time_s >= self._next_thumbnail_s:
            self._next_thumbnail_s = scene.time_s + _THUMBNAIL_STEP_S
            self._thumbnails.add(Image.fromarray(picture[..., ::-1]))
        self.effort.draw += drawn - begun
        self.effort.encode += time.thread_time() - drawn
