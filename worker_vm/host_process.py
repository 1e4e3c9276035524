"""The worker's conversation with one pipeline host: what it is told to do, and what it answers."""

import contextvars
import os
import selectors
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from worker_vm.control import RunControl, StopReason
from worker_vm.host_child import (
    HostChild,
    HostExit,
    HostStartError,
    host_environment,
    select_readable,
)
from worker_vm.host_protocol import (
    Advanced,
    Cancel,
    Detected,
    Ended,
    Event,
    Loaded,
    Memory,
    MemoryFreed,
    MemoryNeeded,
    PipelineReport,
    Prepare,
    Produced,
    ProtocolError,
    Ready,
    Reduced,
    RoomMade,
    RoomWanted,
    Run,
    Unload,
)
from worker_vm.logs import get_logger

log = get_logger(__name__)

START_SECONDS = 30.0
LIMIT_GRACE_SECONDS = 10.0
"""What a run gets to stop by itself at its time limit."""

_RESTARTS = 2
"""A run begins again for want of memory: once with everything, once with less."""

_HUNG_UP_SECONDS = 5.0
"""What a process gets to end, in mid-run, after it has closed its connection."""
_LAST_SECONDS = 0.5
"""The same between two runs."""
_UNLOAD_SECONDS = 5.0


class RunListener(Protocol):
    """Who hears what a run tells. May raise RunCancelledError or PipelineError to stop it."""

    def advanced(self, percent: float, stage: str, message: str | None) -> None:
        """The run is so far."""

    def produced(self, kind: str, path: Path, media_type: str) -> None:
        """A file is finished."""

    def detected(self, event_type: str, data: dict[str, Any]) -> None:
        """The pipeline has seen something in its input."""

    def restarted(self, reason: str) -> None:
        """The run begins again, in a new folder."""

    def free_other_memory(self) -> None:
        """Memory did not suffice: make the other hosts give theirs back."""


class HostCrashedError(Exception):
    """The host ended in the middle of a run."""

    def __init__(self, end: HostExit) -> None:
        super().__init__(f"The pipeline's process {end.describe()}.")
        self.end = end


class HostProcess:
    """One pipeline host with its guard (`host_guard`). Used by one thread.

    Args:
        python: the interpreter.
        pipelines: those that run in it.
        environment: for its process, without what it must not know.
        make_room: asked by a host that loads a pipeline which of its own to unload for it.
    """

    def __init__(
        self,
        python: str,
        pipelines: list[str],
        environment: Mapping[str, str],
        make_room: Callable[["HostProcess", str], str | None],
    ) -> None:
        self.python = python
        self.pipelines = pipelines
        self.reports: dict[str, PipelineReport] = {}
        self.loaded: list[str] = []
        self.memory: Memory | None = None
        """What it held when it said so last; None before it has loaded anything."""
        self._environment = environment
        self._make_room = make_room
        self._child: HostChild | None = None
        self._ready = False
        self._start_by = 0.0
        self._runs = 0
        self._restarts = 0

    @property
    def pid(self) -> int | None:
        """The process; None while there is none."""
        return self._child.pid if self._child else None

    @property
    def ready(self) -> bool:
        """Whether it has started, and was not found dead since."""
        return self._child is not None and self._ready

    @property
    def starting(self) -> bool:
        """Whether it was started, and has not said yet that it is ready."""
        return self._child is not None and not self._ready

    def fileno(self) -> int:
        """What becomes readable when it says something, or ends; to wait on."""
        return self._need().channel.fileno()

    def start(self) -> None:
        """Start it; `catch_up` hears when it is ready.

        Raises:
            HostStartError: there is no such program.
        """
        environment = host_environment(self._environment, self.pipelines)
        self._child = HostChild(self.python, environment)
        self._ready = False
        self._start_by = time.monotonic() + START_SECONDS

    def prepare(self, pipeline: str) -> None:
        """Have a pipeline loaded before it is needed; does not wait."""
        # One that has just died is found to be dead by whoever needs it.
        with suppress(OSError):
            self._need().channel.send(Prepare(pipeline))

    def catch_up(self) -> None:
        """Hear what has become of it between two runs; waits for nothing that takes long.

        Raises:
            HostStartError: it has ended, or had to be, before it was ready; with its last lines.
        """
        child = self._child
        if child is None:
            return
        problem = None
        # First: its last words count.
        dead = child.has_ended()
        try:
            self._hear_between_runs(child)
        except (ProtocolError, OSError) as error:
            problem = f"did not keep to the protocol ({error})"
        if not dead and child.channel.at_end:
            problem = "has hung up"
            dead = child.has_ended(_LAST_SECONDS)
        if self.starting and time.monotonic() >= self._start_by:
            problem = f"took more than {START_SECONDS:.0f} s"
        if problem is None and not dead:
            return
        was_ready = self.ready
        end = self._put_away() if dead else self.kill()
        what = end.describe() if dead else problem
        if was_ready:
            log.warning("host.died", reason=what)
            return
        lines = " / ".join(end.last_lines[-5:]) or "it said nothing"
        raise HostStartError(f"{self.python} {what} before it was ready: {lines}")

    def unload(self, pipeline: str) -> None:
        """Have a pipeline's memory given back between two runs; a host that does not is ended."""
        child = self._need()
        log.info("host.unloads", pipeline=pipeline)
        deadline = time.monotonic() + _UNLOAD_SECONDS
        with suppress(ProtocolError, OSError):
            child.channel.send(Unload(pipeline))
            while pipeline in self.loaded and not child.channel.at_end:
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                select_readable(child.channel.fileno(), left)
                self._hear_between_runs(child, others_wait=True)
        if pipeline in self.loaded:
            log.warning("host.kept_memory", pipeline=pipeline)
            self.kill()

    def _hear_between_runs(self, child: HostChild, *, others_wait: bool = False) -> None:
        for event in child.channel.receive_available():
            match event:
                case Ready() if self.starting:
                    self.reports = {report.name: report for report in event.pipelines}
                    self._ready = True
                    log.info("host.started", pid=child.pid, python=event.python)
                case Loaded():
                    self._note(event)
                case RoomWanted() if others_wait:
                    child.channel.send(RoomMade(None))
                case RoomWanted():
                    self._answer(event)
                case _:
                    raise ProtocolError(f"{type(event).__name__} between two runs")

    def _note(self, event: Loaded) -> None:
        self.loaded = list(event.pipelines)
        self.memory = event.memory

    def _answer(self, event: RoomWanted) -> None:
        self.memory = event.memory
        self._need().channel.send(RoomMade(self._make_room(self, event.pipeline)))

    def run(self, command: Run, listener: RunListener, control: RunControl) -> Ended:
        """Run a pipeline and pass on what it tells, until it has ended.

        When `control` says stop, the run is asked to; one that does not in time is killed with all
        it has started, whatever it is doing.

        Raises:
            HostCrashedError: the process ended in mid-run, by itself or because it was killed.
            RunCancelledError, PipelineError: raised by the listener; the run has been stopped.
        """
        child = self._need()
        output = child.output
        output.context = contextvars.copy_context()
        wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        forget = control.listen(lambda: os.eventfd_write(wake, 1))
        try:
            self._runs += 1
            self._restarts = 0
            child.channel.send(replace(command, number=self._runs))
            ended = self._watch(command.pipeline, listener, control, wake)
            if self.memory is not None and isinstance(ended.used_mib, int):
                self.memory = replace(self.memory, used_mib=ended.used_mib)
            # Its last lines may come after its last word.
            output.settle()
        except OSError:
            # It is gone, or does not read what it is told.
            raise HostCrashedError(self.kill()) from None
        else:
            return ended
        finally:
            forget()
            os.close(wake)
            output.context = contextvars.copy_context()

    def _watch(self, pipeline: str, listener: RunListener, control: RunControl, wake: int) -> Ended:
        child = self._need()
        kill_at: float | None = None
        with selectors.PollSelector() as selector:
            for source in (child.channel, child.pidfd, wake):
                selector.register(source, selectors.EVENT_READ)
            while True:
                if control.stopped.is_set() and kill_at is None:
                    kill_at = time.monotonic() + self._grace(pipeline, control)
                    with suppress(OSError):
                        child.channel.send(Cancel())
                if kill_at is not None and time.monotonic() >= kill_at:
                    log.warning("host.killed", reason=str(control.reason))
                    raise HostCrashedError(self.kill())
                timeout = None if kill_at is None else max(0.0, kill_at - time.monotonic())
                ready = {key.fileobj for key, _ in selector.select(timeout)}
                if wake in ready:
                    os.eventfd_read(wake)
                # Before looking whether it is dead: its last words count.
                ended = self._hear(listener, control)
                if ended is not None:
                    return ended
                if child.channel.at_end and child.channel.fileno() in selector.get_map():
                    # Nothing will come of it any more, whether it is dying or only hung up.
                    selector.unregister(child.channel)
                    hung_up = time.monotonic() + _HUNG_UP_SECONDS
                    kill_at = hung_up if kill_at is None else min(kill_at, hung_up)
                if child.pidfd in ready:
                    raise HostCrashedError(self._put_away())

    def _hear(self, listener: RunListener, control: RunControl) -> Ended | None:
        try:
            events = self._need().channel.receive_available()
        except ProtocolError as error:
            log.exception("host.babbles", reason=str(error))
            raise HostCrashedError(self.kill()) from error
        for event in events:
            if isinstance(event, Ended) and event.number == self._runs:
                return event
            if not _too_late(event, control):
                self._pass_on(event, listener)  # type: ignore[arg-type]
        return None

    def _pass_on(self, event: Event, listener: RunListener) -> None:
        match event:
            case Advanced():
                listener.advanced(event.percent, event.stage, event.message)
            case Produced():
                listener.produced(event.kind, Path(event.path), event.media_type)
            case Detected():
                listener.detected(event.event, event.data)
            case Loaded():
                self._note(event)
            case RoomWanted():
                self._answer(event)
            case MemoryNeeded() | Reduced() if self._restarts >= _RESTARTS:
                log.error("host.restarts_for_ever")
                raise HostCrashedError(self.kill())
            case MemoryNeeded():
                self._restarts += 1
                listener.restarted("memory did not suffice; trying with nothing else loaded")
                listener.free_other_memory()
                self._need().channel.send(MemoryFreed())
            case Reduced():
                self._restarts += 1
                listener.restarted(
                    f"memory did not suffice; trying smaller settings {event.params}"
                )
            case _:
                # The end of another run, say: what it says next cannot be believed either.
                log.error("host.unexpected", message_type=type(event).__name__)
                raise HostCrashedError(self.kill())

    def _grace(self, pipeline: str, control: RunControl) -> float:
        if control.reason is StopReason.TIME_LIMIT:
            return LIMIT_GRACE_SECONDS
        report = self.reports.get(pipeline)
        return report.cancel_grace_seconds if report else 0.0

    def kill(self) -> HostExit:
        """Kill it with all it has started; how it ended."""
        child, self._child = self._need(), None
        return self._forget(child.kill(guarded=self._ready))

    def stop(self) -> None:
        """End it, if it runs."""
        if self._child is not None:
            self.kill()

    def _put_away(self) -> HostExit:
        child, self._child = self._need(), None
        return self._forget(child.put_away())

    def _forget(self, end: HostExit) -> HostExit:
        self.loaded = []
        self.memory = None
        return end

    def _need(self) -> HostChild:
        assert self._child is not None, "the host does not run"
        return self._child


def _too_late(event: object, control: RunControl) -> bool:
    """Whether a run says this after it was told to stop; a cancelled one's files are of use."""
    if not control.stopped.is_set():
        return False
    if isinstance(event, Produced):
        return control.reason is not StopReason.CANCELLED
    return isinstance(event, Advanced | Detected)
