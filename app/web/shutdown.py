"""Telling open streams that the process is about to stop.

A server that was asked to stop waits for its connections to close, and only then ends the
application's lifespan: an event stream would hold it up until the job ends.
"""

import asyncio
import contextlib
import signal
import threading
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def stopping_event() -> asyncio.Event:
    """An event that is set when the process is asked to stop; what else happens then goes on."""
    stopping = asyncio.Event()
    if threading.current_thread() is not threading.main_thread():
        return stopping  # signals can only be handled in the main thread
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        before = signal.getsignal(number)

        def handle(received: int, frame: FrameType | None, before: object = before) -> None:
            with contextlib.suppress(RuntimeError):  # the loop may have been closed
                loop.call_soon_threadsafe(stopping.set)
            if callable(before):
                before(received, frame)

        if callable(before):
            signal.signal(number, handle)
    return stopping
