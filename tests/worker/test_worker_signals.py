"""Signals to real worker processes and to what they have started."""

import os
import signal
import time
from pathlib import Path
from uuid import uuid4

import pytest
import redis
from fake_platform import Platform
from rq import Queue
from rq.job import JobStatus
from worker_support import (
    Start,
    WorkerProcess,
    children,
    do,
    every_pipeline,
    gone,
    push,
    status,
    until,
    worker_names,
)

from devstack.servers import RedisServer


def test_an_idle_worker_stops_when_asked(connection: redis.Redis, start: Start) -> None:
    """SIGTERM ends an idle worker with status 0, and it signs off."""
    worker = start()
    until(lambda: worker_names(connection))
    assert worker.stop() == 0
    assert worker_names(connection) == []


def test_a_worker_whose_host_starts_slowly_stops_when_asked(
    platform: Platform, start: Start, tmp_path: Path
) -> None:
    """SIGTERM is obeyed before a host is ready, and before it is given up."""
    slow = tmp_path / "slow-python"
    slow.write_text("#!/bin/sh\nexec sleep 600\n")
    slow.chmod(0o755)
    worker = start(WORKER_PIPELINES=every_pipeline(f"a:B@{slow}"))
    until(lambda: children(worker.popen.pid), "start of a host")
    (child,) = children(worker.popen.pid)
    assert worker.stop() == 0
    assert "host.not_started" not in worker.log()
    assert gone(child)


def test_a_burst_ends_if_no_host_starts(platform: Platform, queue: Queue, start: Start) -> None:
    """A worker that can run nothing leaves the task to others, and says so by its status."""
    job = push(queue, platform.attempt_id)
    worker = start("--burst", WORKER_PIPELINES=every_pipeline("a:B@/bin/false"))
    assert worker.wait() == 1
    assert "worker.unable" in worker.log()
    assert queue.job_ids == [job.id]


def test_a_busy_worker_drains(
    platform: Platform, queue: Queue, start: Start, tmp_path: Path
) -> None:
    """After SIGTERM, even to all its processes, the running task ends well and no other begins."""
    go = tmp_path / "go"
    do(platform, ["progress", 1], ["wait_for", str(go)])
    first = push(queue, platform.attempt_id)
    worker = start()
    platform.wait_for(lambda: platform.requests("heartbeat"))
    second = push(queue, uuid4())
    host = worker.host()
    worker.send(signal.SIGTERM)
    os.kill(host, signal.SIGTERM)
    until(lambda: "warm shut down requested" in worker.log())
    go.touch()
    assert worker.wait() == 0
    assert platform.outcome.outcome == "succeeded"
    assert status(first) is JobStatus.FINISHED
    assert status(second) is JobStatus.QUEUED
    assert queue.job_ids == [second.id]
    assert queue.intermediate_queue.get_job_ids() == []


def test_a_second_sigterm_hands_the_attempt_back(
    platform: Platform, queue: Queue, start: Start, runs: Path
) -> None:
    """Who asks twice, a second apart, doesn't want to wait: released, and nothing is left."""
    do(platform, ["progress", 1], ["work", 120])
    job = push(queue, platform.attempt_id)
    worker = start()
    platform.wait_for(lambda: platform.requests("heartbeat"))
    host = worker.host()
    worker.send(signal.SIGTERM)
    until(lambda: "warm shut down requested" in worker.log())
    time.sleep(1.1)
    assert worker.stop() == 0
    assert platform.outcome.outcome == "released"
    assert status(job) is JobStatus.FINISHED
    until(lambda: gone(host), "end of the host")
    assert list(runs.iterdir()) == []


def test_workers_have_names_of_their_own(connection: redis.Redis, start: Start) -> None:
    """Two workers on one host, and one after a SIGKILL, register side by side."""
    first, _ = start(), start()
    until(lambda: len(worker_names(connection)) == 2)
    first.kill()
    start()
    until(lambda: len(worker_names(connection)) == 3)


def test_a_killed_worker_leaves_no_process_and_its_folder_is_removed(
    platform: Platform, queue: Queue, start: Start, runs: Path
) -> None:
    """SIGKILL takes the running task along; the next worker removes what lay on the disk."""
    do(platform, ["progress", 1], ["work", 120])
    push(queue, platform.attempt_id)
    worker = start()
    platform.wait_for(lambda: platform.requests("heartbeat"))
    host = worker.host()
    worker.kill()
    until(lambda: gone(host), "end of the host")
    left = list(runs.iterdir())
    assert len(left) == 1
    start("--burst").wait()
    assert list(runs.iterdir()) == []


def test_a_killed_host_is_replaced(platform: Platform, queue: Queue, start: Start) -> None:
    """SIGKILL of the pipelines' process fails the run that it was in, and no other."""
    do(platform, ["progress", 1], ["work", 120])
    push(queue, platform.attempt_id)
    worker = start()
    platform.wait_for(lambda: platform.requests("heartbeat"))
    os.kill(worker.host(), signal.SIGKILL)
    platform.wait_for(lambda: platform.finished)
    assert (platform.outcome.code, platform.outcome.permanent) == ("WORKER_CRASHED", False)
    assert "SIGKILL" in platform.outcome.message
    platform.new_attempt()
    do(platform, ["progress", 1])
    job = push(queue, platform.attempt_id)
    until(lambda: status(job) is JobStatus.FINISHED)
    guard = worker.guard()
    os.kill(worker.host(), signal.SIGKILL)
    # A task that is taken in the very moment in which its host dies costs an attempt.
    until(lambda: guard not in children(worker.popen.pid), "an end that is noticed")
    platform.new_attempt()
    job = push(queue, platform.attempt_id)
    until(lambda: status(job) is JobStatus.FINISHED)
    assert platform.outcome.outcome == "succeeded"
    assert worker.stop() == 0


def test_a_killed_worker_takes_everything_along(
    platform: Platform, queue: Queue, start: Start, tmp_path: Path, connection: redis.Redis
) -> None:
    """SIGKILL leaves neither host nor what a run has started, and the next worker joins at once."""
    path = tmp_path / "grandchild"
    do(platform, ["start_child", [str(path), False]], ["progress", 1], ["hold_gil", 120])
    push(queue, platform.attempt_id)
    worker = start()
    platform.wait_for(lambda: platform.requests("heartbeat"))
    host, grandchild = worker.host(), int(path.read_text())
    worker.kill()
    until(lambda: gone(host), "end of the host")
    until(lambda: gone(grandchild), "end of what the run had started")
    assert queue.intermediate_queue.get_job_ids() == []
    platform.new_attempt()
    do(platform, ["progress", 1])
    job = push(queue, platform.attempt_id)
    start()
    until(lambda: status(job) is JobStatus.FINISHED)
    assert len(worker_names(connection)) == 2


def test_a_zombie_reports_nothing(
    platform: Platform, queue: Queue, start: Start, tmp_path: Path
) -> None:
    """A worker that was stopped past its lease finds the attempt lost, and takes the next task."""
    platform.spec["heartbeat_seconds"] = 0.5
    do(platform, ["progress", 1], ["wait_for", str(tmp_path / "never")])
    push(queue, platform.attempt_id)
    worker = start()
    platform.wait_for(lambda: platform.requests("heartbeat"))
    worker.send(signal.SIGSTOP)
    platform.claimed_by = None
    worker.send(signal.SIGCONT)
    until(lambda: "run.stopped" in worker.log())
    assert platform.finished is None
    platform.new_attempt()
    do(platform, ["artifact", "still.png"])
    job = push(queue, platform.attempt_id)
    until(lambda: status(job) is JobStatus.FINISHED)
    assert platform.outcome.outcome == "succeeded"
    assert worker.stop() == 0


def test_a_task_popped_when_sigterm_comes_is_run(
    platform: Platform, queue: Queue, start: Start
) -> None:
    """A task that Redis has handed over already is not left behind by a worker that stops."""
    worker = start()
    until(lambda: "Listening on" in worker.log())
    worker.send(signal.SIGSTOP)
    # Most of the time the worker waits in a pop, which Redis answers now.
    job = push(queue, platform.attempt_id)
    popped = queue.intermediate_queue.get_job_ids() == [job.id]
    worker.send(signal.SIGTERM)
    worker.send(signal.SIGCONT)
    assert worker.wait() == 0
    assert queue.intermediate_queue.get_job_ids() == []
    if popped or status(job) is not JobStatus.QUEUED:
        assert status(job) is JobStatus.FINISHED
        assert platform.outcome.outcome == "succeeded"
    else:
        assert queue.job_ids == [job.id]


def test_a_drain_has_a_limit(platform: Platform, queue: Queue, start: Start, runs: Path) -> None:
    """A run that goes on for too long after SIGTERM is handed back."""
    do(platform, ["progress", 1], ["hold_gil", 120])
    push(queue, platform.attempt_id)
    worker = start(WORKER_DRAIN_SECONDS="0.5")
    platform.wait_for(lambda: platform.requests("heartbeat"))
    assert worker.stop() == 0
    assert platform.outcome.outcome == "released"
    assert list(runs.iterdir()) == []


def test_two_signals_at_once_are_one(
    platform: Platform, queue: Queue, start: Start, tmp_path: Path
) -> None:
    """A terminal's SIGINT beside a supervisor's SIGTERM does not end the run."""
    go = tmp_path / "go"
    do(platform, ["progress", 1], ["wait_for", str(go)])
    push(queue, platform.attempt_id)
    worker = start()
    platform.wait_for(lambda: platform.requests("heartbeat"))
    worker.send(signal.SIGINT)
    worker.send(signal.SIGTERM)
    until(lambda: "warm shut down requested" in worker.log())
    go.touch()
    assert worker.wait() == 0
    assert platform.outcome.outcome == "succeeded"


def force(worker: WorkerProcess) -> int:
    """SIGTERM twice, far enough apart; its exit status."""
    worker.send(signal.SIGTERM)
    until(lambda: "warm shut down requested" in worker.log())
    time.sleep(1.1)
    return worker.stop()


def test_a_worker_that_cannot_claim_stops_when_asked_twice(
    platform: Platform, queue: Queue, start: Start
) -> None:
    """A claim that nobody answers keeps no worker from ending."""
    platform.away = True
    push(queue, platform.attempt_id)
    worker = start()
    until(lambda: "claim.retry" in worker.log())
    assert force(worker) == 0
    assert platform.claimed_by is None


@pytest.mark.parametrize("step", [["artifact", "still.png"], ["fail", ["NO", "No.", True]]])
def test_a_finished_run_stays_on_disk_when_asked_twice(
    platform: Platform, queue: Queue, start: Start, runs: Path, step: list[object], tmp_path: Path
) -> None:
    """A result that cannot be delivered now is delivered by the next worker, once."""
    do(platform, ["progress", 1], ["wait_for", str(tmp_path / "go")], step)
    push(queue, platform.attempt_id)
    worker = start()
    platform.wait_for(lambda: platform.requests("heartbeat"))
    platform.away = True
    (tmp_path / "go").touch()
    until(lambda: list(runs.glob("*/*/outcome.json")))
    assert force(worker) == 0
    assert platform.finished is None
    platform.away = False
    worker = start()
    platform.wait_for(lambda: platform.finished)
    assert platform.outcome.outcome in {"succeeded", "failed"}
    until(lambda: "spool.delivered" in worker.log())
    assert worker.stop() == 0
    assert list(runs.iterdir()) == []


def test_redis_away_keeps_no_worker_that_is_asked_twice(
    platform: Platform, queue: Queue, start: Start, redis_server: RedisServer
) -> None:
    """A worker that cannot tell Redis of its finished task ends all the same."""
    do(platform, ["progress", 1], ["work", 2])
    push(queue, platform.attempt_id)
    worker = start()
    platform.wait_for(lambda: platform.requests("heartbeat"))
    redis_server.kill()
    platform.wait_for(lambda: platform.finished)
    until(lambda: "redis.away" in worker.log())
    assert force(worker) == 0
    assert platform.outcome.outcome == "succeeded"
