"""Redis and the API go away and come back, around real worker processes."""

import signal
import time
from pathlib import Path
from uuid import uuid4

import pytest
import redis
from fake_platform import LOST, Platform
from rq import Queue
from rq.job import JobStatus
from worker_support import Start, do, names, push, status, until, worker_names

from devstack.servers import RedisServer


def test_redis_may_restart(
    platform: Platform,
    queue: Queue,
    redis_server: RedisServer,
    connection: redis.Redis,
    start: Start,
) -> None:
    """A worker waits for a Redis that is away, idle or busy, and goes on when it is back."""
    worker = start()
    until(lambda: worker_names(connection))
    redis_server.kill()
    until(lambda: "redis.away" in worker.log())
    time.sleep(5)
    redis_server.start()
    until(lambda: "redis.back" in worker.log())
    do(platform, ["progress", 1], ["work", 2])
    job = push(queue, platform.attempt_id)
    platform.wait_for(lambda: platform.requests("heartbeat"))
    redis_server.kill()
    platform.wait_for(lambda: platform.finished)
    redis_server.start()
    until(lambda: status(job) is JobStatus.FINISHED)
    assert worker.popen.poll() is None
    assert worker.stop() == 0


def test_a_worker_may_start_and_stop_without_redis(redis_server: RedisServer, start: Start) -> None:
    """Without Redis a worker says so and waits, and still stops when asked."""
    redis_server.stop()
    worker = start()
    until(lambda: "redis.away" in worker.log())
    worker.send(signal.SIGTERM)
    assert worker.wait() in {0, -signal.SIGTERM}


def test_an_idle_worker_stops_while_redis_is_away(
    redis_server: RedisServer, connection: redis.Redis, start: Start
) -> None:
    """A worker that waits for Redis obeys SIGTERM."""
    worker = start()
    until(lambda: worker_names(connection))
    redis_server.stop()
    until(lambda: "redis.away" in worker.log())
    assert worker.stop() == 0


def test_redis_may_be_flushed(
    platform: Platform, queue: Queue, connection: redis.Redis, start: Start, tmp_path: Path
) -> None:
    """After FLUSHALL, idle or in a run, the worker is registered again and takes tasks."""
    worker = start()
    until(lambda: worker_names(connection))
    names = worker_names(connection)
    connection.flushall()
    until(lambda: worker_names(connection) == names)
    go = tmp_path / "go"
    do(platform, ["progress", 1], ["wait_for", str(go)])
    push(queue, platform.attempt_id)
    platform.wait_for(lambda: platform.requests("heartbeat"))
    connection.flushall()
    go.touch()
    platform.wait_for(lambda: platform.finished)
    assert platform.outcome.outcome == "succeeded"
    until(lambda: worker_names(connection) == names)
    again = push(queue, uuid4())
    until(lambda: status(again) is not JobStatus.QUEUED)
    assert worker.stop() == 0


def test_the_api_may_be_away_during_a_run(
    platform: Platform, queue: Queue, start: Start, tmp_path: Path, runs: Path
) -> None:
    """A run goes on without the API for longer than its lease, and succeeds when it is back."""
    platform.spec |= {"heartbeat_seconds": 0.2, "lease_seconds": 0.5}
    go = tmp_path / "go"
    do(platform, ["artifact", "early.png"], ["progress", 1], ["wait_for", str(go)])
    push(queue, platform.attempt_id)
    worker = start()
    platform.wait_for(lambda: platform.records)
    platform.away = True
    until(lambda: "heartbeat.failed" in worker.log())
    time.sleep(1)
    go.touch()
    until(lambda: list(runs.glob("*/*/outcome.json")))
    platform.away = False
    platform.wait_for(lambda: platform.finished)
    assert platform.outcome.outcome == "succeeded"
    assert names(platform) == ["early.png", "run.log"]
    until(lambda: "finish.reported" in worker.log())
    assert worker.stop() == 0


@pytest.mark.parametrize("arrived", [False, True])
def test_a_result_survives_api_and_worker(
    platform: Platform,
    queue: Queue,
    start: Start,
    tmp_path: Path,
    runs: Path,
    arrived: bool,  # noqa: FBT001
) -> None:
    """A killed worker's finished run is delivered by the next, also started without the API; once.

    Also if the report had arrived and only its answer was lost.
    """
    go = tmp_path / "go"
    do(platform, ["artifact", "early.png"], ["progress", 1], ["wait_for", str(go)])
    platform.spec["params"]["do"].append(["artifact", "model.png"])
    push(queue, platform.attempt_id)
    worker = start()
    platform.wait_for(lambda: platform.requests("heartbeat"))
    if arrived:
        platform.faults["finish"] = [LOST]
        platform.away_after = "finish"
    else:
        platform.away = True
    go.touch()
    until(lambda: list(runs.glob("*/*/outcome.json")))
    if arrived:
        platform.wait_for(lambda: platform.finished)
    worker.kill()
    before = platform.finished
    worker = start()
    until(lambda: "spool.found" in worker.log())
    platform.away = False
    platform.wait_for(lambda: platform.finished)
    until(lambda: "spool.delivered" in worker.log())
    assert platform.outcome.outcome == "succeeded"
    assert before in {None, platform.finished}
    assert names(platform) == ["early.png", "model.png", "run.log"]
    assert worker.stop() == 0
    assert list(runs.iterdir()) == []
