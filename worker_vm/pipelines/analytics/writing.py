"""What becomes of an error while results are written."""

from collections.abc import Iterator
from contextlib import contextmanager

import av

from worker_vm.video.problems import VideoCode, VideoError


@contextmanager
def writing(what: str) -> Iterator[None]:
    """Make errors of the disk, also those that FFmpeg meets, failures that pass.

    Raises:
        VideoError: OUTPUT_WRITE_ERROR.
    """
    try:
        yield
    except (OSError, av.FFmpegError) as error:
        raise VideoError(
            VideoCode.OUTPUT_WRITE_ERROR,
            f"{what.capitalize()} could not be written: {error.strerror}.",
        ) from error
