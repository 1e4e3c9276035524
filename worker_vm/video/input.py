"""The video of a run, wherever it lies: in storage, to be read by ranges, or in a file."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from contract.containers import ENOUGH_BYTES, video_type_of
from worker_vm.pipelines.base import RangedInput, RunInput
from worker_vm.range_protocol import RangeReader
from worker_vm.video.problems import VideoCode, VideoError


@dataclass(frozen=True)
class Video:
    """A video that a run was given."""

    given: Path | RangedInput
    size_bytes: int

    @classmethod
    def of(cls, job: RunInput, parameter: str) -> "Video":
        """What a parameter names.

        Raises:
            VideoError: INPUT_READ_ERROR, there is no such file.
        """
        ranged = job.ranged.get(parameter)
        if ranged is not None:
            return cls(ranged, ranged.size_bytes)
        path = job.inputs[parameter]
        try:
            return cls(path, path.stat().st_size)
        except OSError as error:
            raise _unreadable(error) from error

    @contextmanager
    def open(self) -> Iterator[int]:
        """A descriptor for the confined decoder, which `open_reader` reads.

        Raises:
            VideoError: INPUT_READ_ERROR.
        """
        if isinstance(self.given, RangedInput):
            yield self.given.descriptor
            return
        try:
            file = self.given.open("rb")
        except OSError as error:
            raise _unreadable(error) from error
        with file:
            yield file.fileno()

    def media_type(self) -> str:
        """The file's type by its first bytes.

        Raises:
            VideoError: EMPTY_INPUT, UNSUPPORTED_CONTAINER or INPUT_READ_ERROR.
        """
        if not self.size_bytes:
            raise VideoError(VideoCode.EMPTY_INPUT, "The file is empty. Upload it again.")
        media_type = video_type_of(self._head())
        if media_type is None:
            raise VideoError(
                VideoCode.UNSUPPORTED_CONTAINER,
                "The file is no video of a kind that is taken, whatever its name says. Send MP4,"
                " MOV, MKV, WebM, AVI, WMV, FLV or MPEG-TS.",
            )
        return media_type

    def _head(self) -> bytes:
        try:
            if isinstance(self.given, RangedInput):
                reader = RangeReader(self.given.descriptor, self.size_bytes)
                try:
                    return reader.read(ENOUGH_BYTES)
                finally:
                    reader.close()
            with self.given.open("rb") as file:
                return file.read(ENOUGH_BYTES)
        except OSError as error:
            raise _unreadable(error) from error


def _unreadable(error: OSError) -> VideoError:
    return VideoError(VideoCode.INPUT_READ_ERROR, f"The video could not be read: {error.strerror}.")
