"""The worker's end of one pipeline host: starts it, runs pipelines in it, kills it."""

import contextvars
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from worker_vm.companion import PYTHON_SETTING
from worker_vm.control import RunControl, StopReason
from worker_vm.host_output import HostOutput
from worker_vm.host_protocol import (
    Advanced,
    Cancel,
    Channel,
    Ended,
    Event,
    Loaded,
    MemoryFreed,
    MemoryNeeded,
    PipelineReport,
    Prepare,
    Produced,
    ProtocolError,
    Ready,
    Reduced,
    Run,
)
from worker_vm.logs import get_logger

log = get_logger(__name__)

START_SECONDS = 30.0
LIMIT_GRACE_SECONDS = 10.0
"""What a run gets to stop by itself at its time limit."""

_SEND_TIMEOUT = struct.pack("ll", 5, 0)
"""Seconds and microseconds that one message may take to be taken."""

_RESTARTS = 2
"""A run begins again for want of memory: once with everything, once with less."""

_HUNG_UP_SECONDS = 5.0
"""What a process gets to end after it has closed its connection."""
_ROOT = Path(__file__).resolve().parent.parent
_SECRETS = ("REDIS_URL", "API_URL", "WORKER_API_KEY", "DATABASE_URL", "SECRET_KEY")
_SECRET_GROUPS = ("MINIO_", "FIRST_SUPERUSER_", "RQ_DASHBOARD_")
"""Of no use to a pipeline, and of much to whoever takes it over."""


class RunListener(Protocol):
    """Who hears what a run tells. May raise RunCancelledError or PipelineError to stop it."""

    def advanced(self, percent: float, stage: str, message: str | None) -> None:
        """The run is so far."""

    def produced(self, kind: str, path: Path, media_type: str) -> None:
        """A file is finished."""

    def restarted(self, reason: str) -> None:
        """The run begins again, in a new folder."""

    def free_other_memory(self) -> None:
        """Memory did not suffice: make the other hosts give theirs back."""


@dataclass(frozen=True)
class HostExit:
    """How a host ended."""

    status: int
    """As `subprocess` has it: negative for a signal."""
    peak_memory_mib: int
    last_lines: list[str] = field(default_factory=list)

    def describe(self) -> str:
        """The end in words."""
        if self.status < 0:
            try:
                name = signal.Signals(-self.status).name
            except ValueError:
                name = f"signal {-self.status}"
            return f"was ended by {name}"
        return f"exited with status {self.status}"


class HostCrashedError(Exception):
    """The host ended in the middle of a run."""

    def __init__(self, end: HostExit) -> None:
        super().__init__(f"The pipeline's process {end.describe()}.")
        self.end = end


class HostStartError(Exception):
    """A host could not be started."""


class HostProcess:
    """One pipeline host. Used by one thread, the one that starts it: the host dies with it.

    Args:
        python: the interpreter.
        pipelines: those that run in it.
        environment: for its process, without what it must not know.
    """

    def __init__(self, python: str, pipelines: list[str], environment: Mapping[str, str]) -> None:
        self.python = python
        self.reports: dict[str, PipelineReport] = {}
        self.loaded: list[str] = []
        self._pipelines = pipelines
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self._pidfd = -1
        self._output: HostOutput | None = None
        self._runs = 0
        self._restarts = 0

    @property
    def pid(self) -> int | None:
        """The process; None while there is none."""
        return self._process.pid if self._process else None

    @property
    def alive(self) -> bool:
        """Whether it runs; one that has died since is put away."""
        if self._process is None:
            return False
        if select_readable(self._pidfd, 0):
            end = self._reap()
            log.warning("host.died", reason=end.describe())
            return False
        return True

    def start(self) -> None:
        """Start it and wait until it says what it can run.

        Raises:
            HostStartError: it does not start; with its last lines.
        """
        command = (self.python, "-m", "worker_vm.pipeline_host")
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = subprocess.Popen(  # noqa: S603  (our own module)
                    [*command, str(theirs.fileno()), str(os.getpid())],
                    pass_fds=[theirs.fileno()],
                    env=host_environment(self._environment, self._pipelines),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    # A group of its own: killed as a whole, and out of the terminal's Ctrl-C.
                    start_new_session=True,
                )
            except OSError as error:
                ours.close()
                raise HostStartError(f"{self.python} cannot be started: {error}") from error
        self._process = process
        self._pidfd = os.pidfd_open(process.pid)
        # One that does not read must not hold us up for long.
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _SEND_TIMEOUT)
        self._channel = Channel(ours)
        assert process.stdout is not None
        self._output = HostOutput(process.stdout.fileno(), self._pidfd)
        ready = self._await_ready()
        self.reports = {report.name: report for report in ready.pipelines}
        self.loaded = []
        log.info("host.started", pid=process.pid, python=ready.python)

    def prepare(self, pipeline: str) -> None:
        """Have a pipeline loaded before it is needed; does not wait."""
        if self._channel is not None:
            # One that has just died is found to be dead by whoever needs it.
            with suppress(OSError):
                self._channel.send(Prepare(pipeline))

    def catch_up(self) -> None:
        """Hear what it has said between two runs: which pipelines are loaded by now."""
        assert self._channel is not None
        try:
            for event in self._channel.receive_available():
                if not isinstance(event, Loaded):
                    raise ProtocolError(f"{type(event).__name__} between two runs")  # noqa: TRY301
                self.loaded = list(event.pipelines)
        except (ProtocolError, TypeError) as error:
            log.warning("host.babbles", reason=str(error))
            self.kill()
            return
        if self._channel.at_end:
            log.warning("host.hung_up")
            self.kill()

    def run(self, command: Run, listener: RunListener, control: RunControl) -> Ended:
        """Run a pipeline and pass on what it tells, until it has ended.

        When `control` says stop, the run is asked to; one that does not in time is killed with all
        it has started, whatever it is doing.

        Raises:
            HostCrashedError: the process ended in mid-run, by itself or because it was killed.
            RunCancelledError, PipelineError: raised by the listener; the run has been stopped.
        """
        assert self._channel is not None
        assert self._output is not None
        output = self._output
        output.context = contextvars.copy_context()
        wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        forget = control.listen(lambda: os.eventfd_write(wake, 1))
        try:
            self._runs += 1
            self._restarts = 0
            self._channel.send(replace(command, number=self._runs))
            ended = self._watch(command.pipeline, listener, control, wake)
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
        assert self._channel is not None
        kill_at: float | None = None
        with selectors.PollSelector() as selector:
            for source in (self._channel, self._pidfd, wake):
                selector.register(source, selectors.EVENT_READ)
            while True:
                if control.stopped.is_set() and kill_at is None:
                    kill_at = time.monotonic() + self._grace(pipeline, control)
                    with suppress(OSError):
                        self._channel.send(Cancel())
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
                if self._channel.at_end and self._channel.fileno() in selector.get_map():
                    # Nothing will come of it any more, whether it is dying or only hung up.
                    selector.unregister(self._channel)
                    hung_up = time.monotonic() + _HUNG_UP_SECONDS
                    kill_at = hung_up if kill_at is None else min(kill_at, hung_up)
                if self._pidfd in ready:
                    raise HostCrashedError(self._reap())

    def _hear(self, listener: RunListener, control: RunControl) -> Ended | None:
        assert self._channel is not None
        try:
            events = self._channel.receive_available()
        except ProtocolError as error:
            log.exception("host.babbles", reason=str(error))
            raise HostCrashedError(self.kill()) from error
        for event in events:
            if isinstance(event, Ended) and event.number == self._runs:
                return event
            # What a run still says after it was told to stop is of no interest.
            if not (control.stopped.is_set() and isinstance(event, Advanced | Produced)):
                self._pass_on(event, listener)  # type: ignore[arg-type]
        return None

    def _pass_on(self, event: Event, listener: RunListener) -> None:
        assert self._channel is not None
        match event:
            case Advanced():
                listener.advanced(event.percent, event.stage, event.message)
            case Produced():
                listener.produced(event.kind, Path(event.path), event.media_type)
            case Loaded():
                self.loaded = list(event.pipelines)
            case MemoryNeeded() | Reduced() if self._restarts >= _RESTARTS:
                log.error("host.restarts_for_ever")
                raise HostCrashedError(self.kill())
            case MemoryNeeded():
                self._restarts += 1
                listener.restarted("memory did not suffice; trying with nothing else loaded")
                listener.free_other_memory()
                self._channel.send(MemoryFreed())
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
        assert self._process is not None
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            self._process.kill()
        return self._reap()

    def stop(self) -> None:
        """End it, if it runs."""
        if self._process is not None:
            self.kill()

    def _reap(self) -> HostExit:
        """Wait for its end and put everything away."""
        process, self._process = self._process, None
        assert process is not None
        assert self._channel is not None
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        # What it had started must not outlive it.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        last_lines = self._output.finish() if self._output is not None else []
        if process.stdout is not None:
            process.stdout.close()
        self._channel.close()
        os.close(self._pidfd)
        self.loaded = []
        return HostExit(process.returncode, usage.ru_maxrss // 1024, last_lines)

    def _await_ready(self) -> Ready:
        assert self._channel is not None
        deadline = time.monotonic() + START_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            select_readable(self._channel.fileno(), left)
            try:
                events = self._channel.receive_available()
            except ProtocolError:
                break
            for event in events:
                if isinstance(event, Ready):
                    return event
            if self._channel.at_end:
                select_readable(self._pidfd, _HUNG_UP_SECONDS)
                break
        end = self.kill()
        lines = " / ".join(end.last_lines[-5:]) or "it said nothing"
        raise HostStartError(f"{self.python} {end.describe()} before it was ready: {lines}")


def select_readable(descriptor: int, seconds: float) -> bool:
    """Whether a descriptor becomes readable within so many seconds."""
    with selectors.PollSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        return bool(selector.select(seconds))


def host_environment(inherited: Mapping[str, str], pipelines: list[str]) -> dict[str, str]:
    """The worker's environment without its secrets, and what the host has to know."""
    environment = {
        name: value
        for name, value in inherited.items()
        if name.upper() not in _SECRETS and not name.upper().startswith(_SECRET_GROUPS)
    }
    path = environment.get("PYTHONPATH")
    return {
        **environment,
        "PYTHONPATH": f"{_ROOT}{os.pathsep}{path}" if path else str(_ROOT),
        "PYTHONUNBUFFERED": "1",
        PYTHON_SETTING: sys.executable,
        "WORKER_HOST_PIPELINES": " ".join(pipelines),
    }
