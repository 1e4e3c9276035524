"""The video of a run."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from contract.containers import ENOUGH_BYTES, video_type_of
from worker_vm.pipelines.base import RunInput
from worker_vm.video.problems import VideoCode, VideoError


@dataclass(frozen=True)
class Video:
    """A video that a run was given."""

    given: Path
    size_bytes: int

    @classmethod
    def of(cls, job: RunInput, parameter: str) -> "Video":
        """What a parameter names.

        Raises:
            VideoError: INPUT_READ_ERROR, there is no such file.
        """
        path = job.inputs[parameter]
        try:
            return cls(path, path.stat().st_size)
        except OSError as error:
            raise _unreadable(error) from error

    @contextmanager
    def open(self) -> Iterator[int]:
        """A descriptor for the confined decoder.

        Raises:
            VideoError: INPUT_READ_ERROR.
        """
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
        try:
            with self.given.open("rb") as file:
                media_type = video_type_of(file.read(ENOUGH_BYTES))
        except OSError as error:
            raise _unreadable(error) from error
        if media_type is None:
            raise VideoError(
                VideoCode.UNSUPPORTED_CONTAINER,
                "The file is no video of a kind that is taken, whatever its name says. Send MP4,"
                " MOV, MKV, WebM, AVI, WMV or FLV.",
            )
        return media_type


def _unreadable(error: OSError) -> VideoError:
    return VideoError(VideoCode.INPUT_READ_ERROR, f"The video could not be read: {error.strerror}.")
