"""Every pipeline host of a worker: one for each Python that its pipelines need."""

import itertools
import os
import selectors
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from contract.workers import PipelineStatus
from worker_vm.backoff import RetryPolicy
from worker_vm.control import RunControl, StopReason
from worker_vm.host_child import HostStartError
from worker_vm.host_process import HostCrashedError, HostProcess, RunListener
from worker_vm.host_protocol import Ended, Memory, Run
from worker_vm.logs import get_logger, storable
from worker_vm.pipelines import registry

log = get_logger(__name__)

_RESPAWN = RetryPolicy(first_wait=2, longest_wait=300)
"""Between starts that fail."""
_AFTER_CRASH = RetryPolicy(first_wait=0.5, longest_wait=5)
"""Between crashes; not long, since anybody's pictures may be the reason."""
_LOOK_SECONDS = 0.1


class PipelineUnavailableError(Exception):
    """This worker cannot run a pipeline.

    Args:
        reasons: why, as sentences.
    """

    def __init__(self, reasons: list[str]) -> None:
        super().__init__(" ".join(reasons))
        self.reasons = reasons


class HostPool:
    """Keeps the hosts alive between runs and finds the one for a pipeline.

    All but `statuses` is for one thread.

    Args:
        preload: pipelines to load as soon as their host runs.
        environment: of the worker's process.
    """

    def __init__(
        self, *, preload: tuple[str, ...] = (), environment: Mapping[str, str] = os.environ
    ) -> None:
        self._preload = preload
        self._lock = threading.Lock()
        self._statuses: dict[str, PipelineStatus] = {}
        self._failures: dict[str, int] = {}
        self._crashes: dict[str, int] = {}
        self._respawn_at: dict[str, float] = {}
        self._problems: dict[str, str] = {}
        self._host_of: dict[str, HostProcess] = {}
        self._seen: list[object] = []
        self._used: dict[str, int] = {}
        self._uses = itertools.count()
        self.on_change: Callable[[], None] = lambda: None
        """Called when what can be run, or is loaded, has changed."""
        by_python: dict[str, list[str]] = {}
        for name, entry in registry.known_pipelines(environment).items():
            python = registry.python_of(entry, environment) or sys.executable
            by_python.setdefault(python, []).append(name)
        self._hosts = [
            HostProcess(python, names, environment, self._make_room)
            for python, names in by_python.items()
        ]
        for host, names in zip(self._hosts, by_python.values(), strict=True):
            self._host_of |= dict.fromkeys(names, host)

    def ensure_started(self) -> None:
        """See what has become of every host, and start those that do not run; waits for none.

        One that keeps failing is started less and less often.
        """
        for host in self._hosts:
            was_starting = host.starting
            try:
                host.catch_up()
                if host.pid is None and time.monotonic() >= self._respawn_at.get(host.python, 0):
                    host.start()
            except HostStartError as error:
                self._note_failure(host, str(error))
            if was_starting and host.ready:
                self._problems.pop(host.python, None)
                self._failures.pop(host.python, None)
                for name in self._preload:
                    if self._host_of.get(name) is host:
                        host.prepare(name)
        self._trim()
        self._update_statuses()

    def await_started(self, give_up: Callable[[], bool] = lambda: False) -> None:
        """Start every host, and wait until each is ready or has failed to start."""
        self.ensure_started()
        while any(host.starting for host in self._hosts) and not give_up():
            self.wait(_LOOK_SECONDS)
            self.ensure_started()

    def wait(self, seconds: float) -> None:
        """Wait until a host that starts says something, at most so long."""
        with selectors.PollSelector() as selector:
            for host in self._hosts:
                if host.starting:
                    selector.register(host, selectors.EVENT_READ)
            selector.select(seconds)

    def run(
        self,
        command: Run,
        listener: Callable[[Callable[[], None]], RunListener],
        control: RunControl,
        connections: Sequence[int] = (),
    ) -> Ended:
        """Run a pipeline in its host.

        Args:
            command: what to run.
            listener: makes the listener, given a way to free the other hosts' memory.
            control: says when to stop.
            connections: to the inputs that it reads by ranges.

        Raises:
            PipelineUnavailableError: this worker cannot run it.
            HostCrashedError: the host ended in mid-run; a new one is started before the next.
            RunCancelledError, PipelineError: raised by the listener.
        """
        host = self.require(command.pipeline, control)
        self._used[command.pipeline] = next(self._uses)
        try:
            heard_by = listener(lambda: self._stop_others(host))
            ended = host.run(command, heard_by, control, connections)
        except HostCrashedError:
            if not control.stopped.is_set():
                # One crash may be the picture's fault; several in a row wait longer and longer.
                count = self._crashes[host.python] = self._crashes.get(host.python, 0) + 1
                if count > 1:
                    self._respawn_at[host.python] = time.monotonic() + _AFTER_CRASH.wait(count - 1)
            self._update_statuses()
            raise
        except BaseException:
            # The listener stopped it; a host in mid-run takes no other.
            host.stop()
            self._update_statuses()
            raise
        self._crashes.pop(host.python, None)
        recycle = ended.recycle
        if control.reason is StopReason.TIME_LIMIT:
            recycle = "a run took too long, and may have left something behind"
        if recycle:
            log.info("host.recycled", reason=recycle)
            host.stop()
        self._update_statuses()
        return ended

    @property
    def able(self) -> bool:
        """Whether any host runs."""
        return any(host.ready for host in self._hosts)

    @property
    def hopeless(self) -> bool:
        """Whether no host runs, and each has failed when it was started last."""
        return all(host.pid is None and host.python in self._problems for host in self._hosts)

    def require(self, pipeline: str, control: RunControl) -> HostProcess:
        """The running host of a pipeline that can be run; waits for one that is starting.

        Raises:
            PipelineUnavailableError: it cannot.
            RunCancelledError: the run should stop.
        """
        host = self._host_of.get(pipeline)
        if host is None:
            known = ", ".join(sorted(self._host_of))
            raise PipelineUnavailableError(
                [f"This worker knows no pipeline '{pipeline}' (only {known}); update the worker."]
            )
        self.ensure_started()
        while host.starting:
            control.check()
            self.wait(_LOOK_SECONDS)
            self.ensure_started()
        reasons = self._reasons(pipeline, host)
        if reasons:
            raise PipelineUnavailableError(reasons)
        return host

    def statuses(self) -> list[PipelineStatus]:
        """Each pipeline: whether it can run here, why not, and whether it is loaded."""
        with self._lock:
            return [self._statuses[name] for name in sorted(self._statuses)]

    def stop(self) -> None:
        """End every host."""
        for host in self._hosts:
            host.stop()

    def _stop_others(self, host: HostProcess) -> None:
        for other in self._hosts:
            if other is not host:
                other.stop()

    def _make_room(self, asking: HostProcess, wanted: str) -> str | None:
        """Have unloaded what was used least recently, in any host, until all is within the budget.

        Returns:
            A pipeline that the asking host has to unload itself, and ask again; None if it may
            load the wanted one, or keep it.
        """
        if wanted in asking.pipelines:
            self._used[wanted] = next(self._uses)
        assert asking.memory is not None
        while (victim := self._next_to_go(asking.memory, wanted)) is not None:
            if self._host_of[victim] is asking:
                return victim
            self._host_of[victim].unload(victim)
        return None

    def _trim(self) -> None:
        """Keep to the budget between two runs too: hosts that load at the same time both fit in."""
        for host in self._hosts:
            while host.memory is not None and (victim := self._next_to_go(host.memory)) is not None:
                self._host_of[victim].unload(victim)

    def _next_to_go(self, memory: Memory, wanted: str | None = None) -> str | None:
        """What was used least recently, if too much of a device's memory is used; else None.

        Never the wanted one, or else the one that was used last: it may be larger than the budget.
        """
        # Hosts on a device and hosts without one do not take memory from each other.
        rivals = [
            host
            for host in self._hosts
            if host.memory is not None and host.memory.device == memory.device
        ]
        used = sum(host.memory.used_mib for host in rivals if host.memory is not None)
        if used <= memory.budget_mib:
            return None
        loaded = sorted(
            (name for host in rivals for name in host.loaded if self._host_of.get(name) is host),
            key=lambda name: self._used.get(name, -1),
        )
        stays = wanted or (loaded[-1] if loaded else None)
        return next((name for name in loaded if name != stays), None)

    def _reasons(self, pipeline: str, host: HostProcess) -> list[str]:
        if not host.ready:
            return [self._problems.get(host.python, "Its process does not run.")]
        report = host.reports.get(pipeline)
        return ["Its process does not know it."] if report is None else report.reasons

    def _note_failure(self, host: HostProcess, problem: str) -> None:
        count = self._failures[host.python] = self._failures.get(host.python, 0) + 1
        wait = _RESPAWN.wait(count)
        self._respawn_at[host.python] = time.monotonic() + wait
        self._problems[host.python] = problem
        log.error("host.not_started", reason=problem, wait_seconds=round(wait, 1))

    def _update_statuses(self) -> None:
        seen: list[object] = [
            (host.ready, host.pid, host.loaded, self._problems.get(host.python))
            for host in self._hosts
        ]
        if seen == self._seen:
            return
        self._seen = seen
        statuses = {}
        for name, host in self._host_of.items():
            report = host.reports.get(name)
            if report is None or host.ready or host.python in self._problems:
                reasons = self._reasons(name, host)
            else:  # between two runs it is as good as started
                reasons = report.reasons
            statuses[name] = PipelineStatus(
                name=name,
                version=storable(report.version)[:64] if report else "unknown",
                runnable=not reasons,
                reasons=[storable(reason)[:500] for reason in reasons[:20]],
                warm=name in host.loaded,
            )
        with self._lock:
            changed = statuses != self._statuses
            self._statuses = statuses
        if changed:
            self.on_change()


def inputs_as_text(inputs: Mapping[str, Path]) -> dict[str, str]:
    """Paths as the protocol has them."""
    return {name: str(path) for name, path in inputs.items()}
