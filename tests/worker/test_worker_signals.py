"""Signals to real worker processes and to what they have started."""

import os
import signal
import time
from pathlib import Path
from uuid import uuid4

import redis
from fake_platform import Platform
from rq import Queue
from rq.job import JobStatus
from worker_support import Start, do, gone, push, status, until, worker_names


def test_an_idle_worker_stops_when_asked(connection: redis.Redis, start: Start) -> None:
    """SIGTERM ends an idle worker with status 0, and it signs off."""
    worker = start()
    until(lambda: worker_names(connection))
    assert worker.stop() == 0
    assert worker_names(connection) == []


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
