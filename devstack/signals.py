"""Ctrl-C, `kill` and a closed terminal: all end a command the same, orderly way."""

import signal
from types import FrameType

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def interrupt_on_signals() -> None:
    """From now on each of them raises KeyboardInterrupt in the main thread."""
    for number in _STOPPING:
        signal.signal(number, _interrupt)


def ignore_signals() -> None:
    """For the time of stopping, which ends by itself."""
    for number in _STOPPING:
        signal.signal(number, signal.SIG_IGN)
