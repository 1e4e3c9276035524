"""Every pipeline host of a worker: one for each Python that its pipelines need."""

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from contract.workers import PipelineStatus
from worker_vm.backoff import RetryPolicy
from worker_vm.control import RunControl
from worker_vm.host_process import HostCrashedError, HostProcess, HostStartError, RunListener
from worker_vm.host_protocol import Ended, Run
from worker_vm.logs import get_logger, storable
from worker_vm.pipelines import registry

log = get_logger(__name__)

_RESPAWN = RetryPolicy(first_wait=0.5, longest_wait=60)


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

    All but `statuses` is for one thread: a host dies with the thread that started it.

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
        self._respawn_at: dict[str, float] = {}
        self._problems: dict[str, str] = {}
        self._host_of: dict[str, HostProcess] = {}
        self._seen: list[object] = []
        self.on_change: Callable[[], None] = lambda: None
        """Called when what can be run, or is loaded, has changed."""
        by_python: dict[str, list[str]] = {}
        for name, entry in registry.known_pipelines(environment).items():
            python = registry.python_of(entry, environment) or sys.executable
            by_python.setdefault(python, []).append(name)
        self._hosts = [
            HostProcess(python, names, environment) for python, names in by_python.items()
        ]
        for host, names in zip(self._hosts, by_python.values(), strict=True):
            self._host_of |= dict.fromkeys(names, host)

    def ensure_started(self) -> None:
        """Start every host that does not run; one that keeps failing less and less often."""
        for host in self._hosts:
            if host.alive:
                host.catch_up()
            if host.alive or time.monotonic() < self._respawn_at.get(host.python, 0):
                continue
            try:
                host.start()
            except HostStartError as error:
                self._note_failure(host, str(error))
                continue
            self._problems.pop(host.python, None)
            for name in self._preload:
                if self._host_of.get(name) is host:
                    host.prepare(name)
        self._update_statuses()

    def run(
        self,
        command: Run,
        listener: Callable[[Callable[[], None]], RunListener],
        control: RunControl,
    ) -> Ended:
        """Run a pipeline in its host.

        Args:
            command: what to run.
            listener: makes the listener, given a way to free the other hosts' memory.
            control: says when to stop.

        Raises:
            PipelineUnavailableError: this worker cannot run it.
            HostCrashedError: the host ended in mid-run; a new one is started before the next.
            RunCancelledError, PipelineError: raised by the listener.
        """
        host = self.require(command.pipeline)
        try:
            ended = host.run(command, listener(lambda: self._stop_others(host)), control)
        except HostCrashedError:
            if not control.stopped.is_set():
                # One crash may be the picture's fault; several in a row wait longer and longer.
                count = self._failures[host.python] = self._failures.get(host.python, 0) + 1
                if count > 1:
                    self._respawn_at[host.python] = time.monotonic() + _RESPAWN.wait(count - 1)
            self._update_statuses()
            raise
        except BaseException:
            # The listener stopped it; a host in mid-run takes no other.
            host.stop()
            self._update_statuses()
            raise
        self._failures.pop(host.python, None)
        if ended.recycle:
            log.info("host.recycled", reason=ended.recycle)
            host.stop()
        self._update_statuses()
        return ended

    @property
    def able(self) -> bool:
        """Whether any host runs."""
        return any(host.alive for host in self._hosts)

    def require(self, pipeline: str) -> HostProcess:
        """The running host of a pipeline that can be run.

        Raises:
            PipelineUnavailableError: it cannot.
        """
        host = self._host_of.get(pipeline)
        if host is None:
            known = ", ".join(sorted(self._host_of))
            raise PipelineUnavailableError(
                [f"This worker knows no pipeline '{pipeline}' (only {known}); update the worker."]
            )
        if not host.alive:
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

    def _reasons(self, pipeline: str, host: HostProcess) -> list[str]:
        if not host.alive:
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
            (host.alive, host.pid, host.loaded, self._problems.get(host.python))
            for host in self._hosts
        ]
        if seen == self._seen:
            return
        self._seen = seen
        statuses = {}
        for name, host in self._host_of.items():
            report = host.reports.get(name)
            # A host between two runs is as good as started.
            reasons = self._reasons(name, host) if report is None or host.alive else report.reasons
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
