"""Why a video cannot be read. Standard library only."""

from enum import StrEnum


class VideoCode(StrEnum):
    """What is wrong with a video, or with what it would become; the failure codes of its jobs."""

    EMPTY_INPUT = "EMPTY_INPUT"
    UNSUPPORTED_CONTAINER = "UNSUPPORTED_CONTAINER"
    NO_VIDEO_STREAM = "NO_VIDEO_STREAM"
    FFMPEG_CODEC_ERROR = "FFMPEG_CODEC_ERROR"
    CORRUPT_INPUT = "CORRUPT_INPUT"
    RESOLUTION_LIMIT = "RESOLUTION_LIMIT"
    DURATION_LIMIT = "DURATION_LIMIT"
    FRAME_LIMIT = "FRAME_LIMIT"
    OUTPUT_LIMIT = "OUTPUT_LIMIT"
    MEMORY_LIMIT = "MEMORY_LIMIT"
    TIMEOUT = "TIMEOUT"
    INVALID_ZONE = "INVALID_ZONE"
    INVALID_PARAMETERS = "INVALID_PARAMETERS"
    INPUT_READ_ERROR = "INPUT_READ_ERROR"
    OUTPUT_WRITE_ERROR = "OUTPUT_WRITE_ERROR"


PASSING = frozenset({VideoCode.INPUT_READ_ERROR, VideoCode.OUTPUT_WRITE_ERROR})
"""Not the video's fault; the job may be tried again."""


class VideoError(Exception):
    """A video cannot be read as asked.

    Args:
        code: what was wrong.
        message: a sentence that says what was wrong and what to do.
    """

    def __init__(self, code: VideoCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
