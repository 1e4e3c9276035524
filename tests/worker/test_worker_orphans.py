"""What a pipeline has started ends with its process, wherever it hides; and leaves no zombie."""

import ctypes
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from fake_platform import Platform
from rq import Queue
from worker_support import Start, children, do, gone, push, until

from worker_vm.host_pool import HostPool
from worker_vm.runner import RunHost, run_attempt

MakePool = Callable[..., HostPool]
PR_SET_CHILD_SUBREAPER = 36


@pytest.fixture
def adopter() -> Iterator[None]:
    """This process gets the orphans of whatever it starts, as a container's first process does."""
    libc = ctypes.CDLL(None)
    assert libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    yield
    libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def run(platform: Platform, host: RunHost, *steps: list[object], pipeline: str = "scripted") -> str:
    """A run of its own; its outcome in a word."""
    platform.new_attempt()
    platform.spec["pipeline"] = pipeline
    do(platform, *steps)
    return run_attempt(host, platform.attempt_id)


@pytest.mark.parametrize("end", [["kill_itself", 0], ["exit_at_once", 0], ["segfault", 0]])
def test_a_daemon_ends_with_its_host(
    platform: Platform, host: RunHost, tmp_path: Path, end: list[object]
) -> None:
    """A process with a session of its own, and without a parent, is killed after a crash."""
    path = tmp_path / "daemon"
    assert run(platform, host, ["start_daemon", str(path)], end) == "failed"
    assert gone(int(path.read_text()))


def test_a_daemon_lives_as_long_as_its_host(
    platform: Platform, host: RunHost, make_pool: MakePool, tmp_path: Path, bare_python: str
) -> None:
    """The end of one host is none of what another one has started; its own end is."""
    host.pool = make_pool(
        WORKER_PIPELINES="scripted=scripted_pipeline:Scripted "
        f"other=scripted_pipeline:Scripted@{bare_python}"
    )
    path = tmp_path / "daemon"
    run(platform, host, ["start_daemon", str(path)], pipeline="other")
    daemon = int(path.read_text())
    assert run(platform, host, ["kill_itself", 0]) == "failed"
    assert run(platform, host, pipeline="other") == "succeeded"
    assert not gone(daemon)
    host.pool.stop()
    assert gone(daemon)


def test_a_killed_worker_takes_daemons_along(
    platform: Platform, queue: Queue, start: Start, tmp_path: Path
) -> None:
    """SIGKILL of the worker leaves nothing running, not even in a session of its own."""
    path = tmp_path / "daemon"
    do(platform, ["start_daemon", str(path)], ["progress", 1], ["hold_gil", 120])
    push(queue, platform.attempt_id)
    worker = start()
    platform.wait_for(lambda: platform.requests("heartbeat"))
    family = [int(path.read_text()), worker.guard(), worker.host()]
    worker.kill()
    for pid in family:
        until(lambda pid=pid: gone(pid), "end of what the worker had started")


def test_a_killed_guard_is_a_crash(
    platform: Platform, queue: Queue, start: Start, tmp_path: Path
) -> None:
    """Without its guard a host does not live on; the run fails and the next one succeeds."""
    path = tmp_path / "child"
    do(platform, ["start_child", [str(path), False]], ["progress", 1], ["hold_gil", 120])
    push(queue, platform.attempt_id)
    worker = start()
    platform.wait_for(lambda: platform.requests("heartbeat"))
    family = [int(path.read_text()), worker.host()]
    os.kill(worker.guard(), signal.SIGKILL)
    platform.wait_for(lambda: platform.finished)
    assert platform.outcome.code == "WORKER_CRASHED"
    for pid in family:
        until(lambda pid=pid: gone(pid), "end of what the guard had watched")
    platform.new_attempt()
    do(platform, ["progress", 1])
    push(queue, platform.attempt_id)
    platform.wait_for(lambda: platform.finished)
    assert platform.outcome.outcome == "succeeded"


def test_a_stopped_guard_keeps_nobody(
    platform: Platform, queue: Queue, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run below a guard that does not move is killed all the same."""
    do(platform, ["progress", 1], ["hold_gil", 120])
    push(queue, platform.attempt_id)
    worker = start()
    platform.wait_for(lambda: platform.requests("heartbeat"))
    host = worker.host()
    os.kill(worker.guard(), signal.SIGSTOP)
    platform.cancel_requested = True
    platform.wait_for(lambda: platform.finished)
    assert platform.outcome.outcome == "cancelled"
    until(lambda: gone(host), "end of the host")


@pytest.mark.usefixtures("adopter")
def test_no_zombies_for_the_first_process(
    platform: Platform, host: RunHost, make_pool: MakePool, tmp_path: Path
) -> None:
    """A worker without an init above it keeps no dead process: neither hosts nor their orphans."""
    before = set(psutil.Process().children())
    host.pool = pool = make_pool(WORKER_RECYCLE_RUNS="2")
    for number in range(3):
        daemon = str(tmp_path / f"daemon-{number}")
        assert run(platform, host, ["start_orphan", 0]) == "succeeded"
        guard = pool._hosts[0].pid
        assert guard is not None
        until(lambda guard=guard: len(children(guard)) == 1, "end of the orphan")
        assert run(platform, host, ["start_daemon", daemon]) == "succeeded"
        assert pool._hosts[0].pid is None, "it was not replaced"
        assert gone(int(Path(daemon).read_text()))
    pool.stop()
    assert set(psutil.Process().children()) == before
