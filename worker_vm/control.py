"""Whether a run should go on, shared by the pipeline's thread and those around it."""

import threading
from collections.abc import Callable
from enum import StrEnum

from worker_vm.pipelines.base import RunCancelledError


class StopReason(StrEnum):
    """Why a run has to stop."""

    CANCELLED = "cancelled"
    STOPPED = "stopped"
    """An operator stopped it here; nobody cancelled the job."""
    SHUTDOWN = "shutdown"
    """The worker has to end before the run does."""
    TIME_LIMIT = "time_limit"
    UPLOAD_FAILED = "upload_failed"
    LOST = "lost"
    """The attempt is no longer ours: nothing may be reported."""


class RunControl:
    """Set once by whoever sees a reason to stop; asked by everybody else."""

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self.reason: StopReason | None = None
        self.abandoned = False
        """Whether even a report must not be waited for, whatever the first reason was."""
        self._listeners: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    def stop(self, reason: StopReason) -> None:
        """Ask the run to stop. The first reason stays, unless the attempt is lost."""
        with self._lock:
            if self.reason is None or reason is StopReason.LOST:
                self.reason = reason
            if reason in {StopReason.LOST, StopReason.SHUTDOWN}:
                self.abandoned = True
            self.stopped.set()
            # Inside the lock: who has stopped listening is called no more.
            for listener in self._listeners:
                listener()

    def listen(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back after each reason to stop, in the thread that gave it.

        Returns:
            A way to stop listening.
        """
        with self._lock:
            self._listeners.append(callback)

        def forget() -> None:
            with self._lock:
                self._listeners.remove(callback)

        return forget

    def end(self) -> None:
        """Say that the run is over, so that nobody goes on for it."""
        self.stopped.set()

    def check(self) -> None:
        """Raise RunCancelledError if the run should stop."""
        if self.stopped.is_set():
            raise RunCancelledError

    def pause(self, seconds: float) -> bool:
        """Wait, at most until the run should stop; says whether it should."""
        return self.stopped.wait(seconds)
