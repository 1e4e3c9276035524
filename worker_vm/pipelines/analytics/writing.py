"""What becomes of an error while results are written."""

from collections.abc import Iterator
from contextlib import contextmanager

import av

from worker_vm.video.problems import VideoCode, VideoError


@contextmanager
def writing(what: str) -> Iterator[None]:
    """Make errors of the disk, also those that FFmpeg meets, failures that pass; its others do not.

    Raises:
        VideoError: OUTPUT_WRITE_ERROR, or FFMPEG_CODEC_ERROR if FFmpeg refuses what is written.
        MemoryError: there was too little memory, also where FFmpeg says so.
    """
    try:
        yield
    except MemoryError:
        raise
    except OSError as error:
        raise VideoError(
            VideoCode.OUTPUT_WRITE_ERROR,
            f"{what.capitalize()} could not be written: {error.strerror}.",
        ) from error
    except av.FFmpegError as error:
        raise VideoError(
            VideoCode.FFMPEG_CODEC_ERROR,
            f"{what.capitalize()} could not be encoded (FFmpeg says: {error.strerror}). Convert the"
            " video to H.264 with a constant frame rate, or choose another max_width.",
        ) from error
