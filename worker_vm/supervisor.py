"""The thread beside a run: extends the lease, tells progress and events, enforces the time limit.

It lives in the worker's process, not in the pipeline's: a pipeline that is busy in C for minutes
keeps its lease. It sets a reason to stop; `host_process` makes the pipeline obey.

An API that is away takes nothing from anybody: the run goes on, and the app gives leases their time
again when it is back. Only an answer says that an attempt is lost.
"""

import contextvars
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from queue import Empty, SimpleQueue
from typing import Any

from contract.attempts import AttemptHeartbeat, JobSpec, Progress
from worker_vm.api_client import (
    ApiRefusedError,
    AttemptApi,
    AttemptLostError,
    WorkerKeyRefusedError,
)
from worker_vm.control import RunControl, StopReason
from worker_vm.event_outbox import EventOutbox
from worker_vm.logs import get_logger

log = get_logger(__name__)


class Signal(Enum):
    """What other threads, and signal handlers, put into a supervisor's mailbox."""

    WAKE = auto()
    STOP = auto()
    """An operator wants this run to end."""
    SHUTDOWN = auto()
    """The worker has to end now."""
    CLOSE = auto()


Mailbox = SimpleQueue[Signal]
"""Its `put` may be called from a signal handler, which no lock or event allows."""


@dataclass(frozen=True)
class Timings:
    """The supervisor's own times in seconds; the lease's come with the claim."""

    progress_spacing: float = 1
    longest_call: float = 10


class Supervisor:
    """Watches one run from its claim until its report.

    Args:
        api: the attempt's calls.
        spec: the claimed attempt.
        claimed_at: `time.monotonic()` before the claim was sent; the lease counts from there.
        control: where reasons to stop are put.
        mailbox: wakes the thread.
        events: what the run has seen, sent with the heartbeats.
    """

    def __init__(
        self,
        api: AttemptApi,
        spec: JobSpec,
        *,
        claimed_at: float,
        control: RunControl,
        mailbox: Mailbox,
        timings: Timings,
        events: EventOutbox,
    ) -> None:
        self.events = events
        self._api = api
        self._spec = spec
        self._control = control
        self._mailbox = mailbox
        self._timings = timings
        self._next_beat = claimed_at + spec.heartbeat_seconds
        self._deadline = claimed_at + spec.time_limit_seconds
        self._last_beat = claimed_at
        self._failures = 0
        self._progress: Progress | None = None
        self._told: Progress | None = None
        self._working = False
        self._closed = False
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._loop,), name="supervisor", daemon=True
        )

    def start(self) -> None:
        """Begin to extend the lease."""
        self._thread.start()

    def close(self) -> None:
        """Stop extending the lease; waits for a heartbeat that is under way."""
        self._mailbox.put(Signal.CLOSE)
        self._thread.join()

    @contextmanager
    def working(self) -> Iterator[None]:
        """The block that the time limit covers."""
        self._working = True
        self._mailbox.put(Signal.WAKE)
        try:
            yield
        finally:
            self._working = False

    @property
    def latest_progress(self) -> Progress | None:
        """What was told last."""
        return self._progress

    def tell(self, progress: Progress) -> None:
        """Have progress sent with the next heartbeat, which comes soon."""
        self._progress = progress
        self._mailbox.put(Signal.WAKE)

    def tell_event(self, event_type: str, data: dict[str, Any]) -> None:
        """Have an event sent with the next heartbeat, which comes soon.

        Raises:
            ValidationError: the type or the data is not allowed.
        """
        known = bool(self.events)
        self.events.add(event_type, data)
        if not known:
            self._mailbox.put(Signal.WAKE)

    def _loop(self) -> None:
        while not self._closed:
            now = time.monotonic()
            self._enforce(now)
            if now >= self._beat_at():
                self._beat(now)
            self._receive(self._next_event() - time.monotonic())

    def _receive(self, timeout: float) -> None:
        try:
            signal = self._mailbox.get(timeout=max(0.0, timeout))
        except Empty:
            return
        if signal is Signal.CLOSE:
            self._closed = True
        elif signal is Signal.STOP:
            log.info("run.stop_commanded")
            # The answer says whether the job was cancelled or only this run is unwanted.
            self._beat(time.monotonic())
            if not self._control.stopped.is_set():
                self._control.stop(StopReason.STOPPED)
        elif signal is Signal.SHUTDOWN:
            log.info("run.shutdown")
            self._control.stop(StopReason.SHUTDOWN)

    def _next_event(self) -> float:
        moments = [self._beat_at(), time.monotonic() + 3600]
        if self._working and not self._control.stopped.is_set():
            moments.append(self._deadline)
        return min(moments)

    def _enforce(self, now: float) -> None:
        if self._working and now >= self._deadline and not self._control.stopped.is_set():
            log.error("run.time_limit", limit_seconds=self._spec.time_limit_seconds)
            self._control.stop(StopReason.TIME_LIMIT)

    def _beat_at(self) -> float:
        if self._control.reason is StopReason.LOST:
            return float("inf")
        news = self._progress is not self._told or self.events
        if news and self._failures == 0:
            return min(self._next_beat, self._last_beat + self._timings.progress_spacing)
        return self._next_beat

    def _beat(self, now: float) -> None:
        progress = self._progress
        events = self.events.next_batch()
        self._last_beat = now
        timeout = min(self._timings.longest_call, max(1.0, self._spec.heartbeat_seconds))
        try:
            reply = self._api.heartbeat(
                AttemptHeartbeat(
                    progress=None if progress is self._told else progress, events=events
                ),
                timeout=timeout,
            )
        except AttemptLostError as error:
            log.warning("attempt.lost", reason=str(error))
            self._control.stop(StopReason.LOST)
        except Exception as error:  # noqa: BLE001  (without this thread there is no time limit)
            self._note_failure(error)
            refused = isinstance(error, ApiRefusedError)
            if events and refused and not isinstance(error, WorkerKeyRefusedError):
                # Whatever is wrong with them, the lease must not end for it.
                log.warning("events.refused", events=len(events), reason=str(error))
                self.events.done_with(events)
        else:
            if self._failures:
                log.info("heartbeat.recovered", failures=self._failures)
            self._failures = 0
            self._told = progress
            self.events.done_with(events)
            self._next_beat = now + self._spec.heartbeat_seconds
            if reply.cancel_requested and not self._control.stopped.is_set():
                log.info("run.cancel_requested")
                self._control.stop(StopReason.CANCELLED)

    def _note_failure(self, error: Exception) -> None:
        self._failures += 1
        wait = min(self._spec.heartbeat_seconds, 0.5 * 2.0 ** min(self._failures, 10))
        self._next_beat = time.monotonic() + wait
        if self._failures == 1:
            log.warning("heartbeat.failed", reason=str(error))
