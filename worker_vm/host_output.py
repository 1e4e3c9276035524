"""What a pipeline host prints: lines of the log, the last of them kept for a crash report."""

import contextvars
import os
import selectors
import threading
from collections import deque

from worker_vm.logs import get_logger

log = get_logger(__name__)

_TAIL_LINES = 50
_LINE_LENGTH = 2000
_CHUNK = 1 << 16


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
        self._thread = threading.Thread(target=self._read, name="host-output", daemon=True)
        self._thread.start()

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
            self.context.copy().run(log.info, "pipeline.output", line=line)
