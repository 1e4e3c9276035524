"""Redis and the API go away and come back, around real worker processes."""

import signal
import time
from pathlib import Path
from uuid import uuid4

import redis
from fake_platform import Platform
from rq import Queue
from rq.job import JobStatus
from worker_support import Start, do, push, status, until, worker_names

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
