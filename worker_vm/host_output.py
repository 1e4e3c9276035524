"""What a pipeline host prints: lines of the log, the last of them kept for a crash report."""

import array
import contextvars
import fcntl
import os
import selectors
import termios
import threading
import time
from collections import deque
from contextlib import suppress

from worker_vm.logs import get_logger

log = get_logger(__name__)

_TAIL_LINES = 50
_LINE_LENGTH = 2000
_CHUNK = 1 << 16
_SETTLE_SECONDS = 1.0


class HostOutput:
    """Reads a host's output in a thread of its own until the host is dead.

    Not until the output is closed: what a pipeline has started may keep it open for ever.

    Args:
        descriptor: of the output; stays the caller's.
        pidfd: of the host.
    """

    def __init__(self, descriptor: int, pidfd: int) -> None:
        self.context = contextvars.copy_context()
        """Whose ids the lines carry."""
        self._descriptor = descriptor
        self._pidfd = pidfd
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._partial = b""
        self._reading = threading.Lock()
        self._thread = threading.Thread(target=self._read, name="host-output", daemon=True)
        self._thread.start()

    def settle(self) -> None:
        """Wait until all that has been printed so far is in the log; not long, if it never ends."""
        deadline = time.monotonic() + _SETTLE_SECONDS
        while time.monotonic() < deadline:
            with self._reading:
                waiting = array.array("i", [0])
                fcntl.ioctl(self._descriptor, termios.FIONREAD, waiting)
                if not waiting[0]:
                    return
            time.sleep(0.001)

    def finish(self) -> list[str]:
        """The last lines of a host that is dead."""
        self._thread.join()
        return list(self._tail)

    def _read(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._descriptor, selectors.EVENT_READ)
            selector.register(self._pidfd, selectors.EVENT_READ)
            while True:
                ready = {key.fd for key, _ in selector.select()}
                # Once it is dead, what the pipe holds is all there is to come of it.
                last = self._pidfd in ready
                if self._descriptor in ready:
                    with self._reading:
                        data = os.read(self._descriptor, _CHUNK)
                        self._take(data)
                    if not data:
                        selector.unregister(self._descriptor)
                if last:
                    break
        if self._partial:
            self._say(self._partial)

    def _take(self, data: bytes) -> None:
        *lines, self._partial = (self._partial + data).split(b"\n")
        # A line without an end must not grow without one.
        self._partial = self._partial[-_CHUNK:]
        for line in lines:
            self._say(line)

    def _say(self, raw: bytes) -> None:
        line = raw.decode(errors="replace").rstrip()[:_LINE_LENGTH]
        if line:
            self._tail.append(line)
            # Whatever is wrong with a log, a host whose output nobody reads would stand still.
            with suppress(Exception):
                self.context.copy().run(log.info, "pipeline.output", line=line)
