"""What FFmpeg says only in its log: that a picture is too large, or that it painted over damage."""

import logging

import av.logging

_TOO_LARGE = ("exceeds specified max pixel count", "Picture size")
_CONCEALED = "concealing "


class LogWatch(logging.Handler):
    """Listens to all of FFmpeg, and keeps nothing but the answers."""

    def __init__(self) -> None:
        super().__init__()
        self.too_large = False
        """Whether any picture was larger than allowed."""
        self.concealed = False
        """Whether damage was painted over since this was set to False."""

    def listen(self) -> None:
        """Begin; what FFmpeg says goes nowhere else."""
        logger = logging.getLogger("libav")
        logger.setLevel(logging.DEBUG)
        logger.propagate = False
        logger.handlers = [self]
        av.logging.set_level(av.logging.INFO)

    def emit(self, record: logging.LogRecord) -> None:
        """Look at a line."""
        text = record.getMessage()
        self.too_large = self.too_large or any(phrase in text for phrase in _TOO_LARGE)
        self.concealed = self.concealed or _CONCEALED in text
