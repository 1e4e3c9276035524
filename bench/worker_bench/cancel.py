"""How soon a run is dead that hears nothing: a loop in C that holds the interpreter's lock."""

import os
import select
import time

import redis
from rq.command import send_stop_job_command
from rq.serializers import JSONSerializer

from bench.worker_bench.pipelines import Spin
from bench.worker_bench.platform import START_SECONDS, Platform

_DEADLINE_SECONDS = 30.0


def measure(platform: Platform, runs: int) -> list[float]:
    """Seconds from RQ's stop command until the child is dead, for each run."""
    with redis.Redis.from_url(platform.stack.redis_url) as connection:
        return [_stop_one(platform, connection) for _ in range(runs)]


def _stop_one(platform: Platform, connection: redis.Redis) -> float:
    job_id = platform.submit(Spin.name)
    child = os.pidfd_open(platform.ear.next(START_SECONDS).pid)
    [row] = platform.query("SELECT current_attempt_id FROM jobs WHERE id = $1", job_id)
    death = select.poll()
    death.register(child, select.POLLIN)
    began = time.perf_counter()
    send_stop_job_command(connection, str(row[0]), serializer=JSONSerializer)
    is_dead = death.poll(_DEADLINE_SECONDS * 1000)
    seconds = time.perf_counter() - began
    os.close(child)
    if not is_dead:
        raise SystemExit(f"A stopped run was still there after {_DEADLINE_SECONDS:g} s.")
    # A run that was stopped by its operator would be tried again.
    platform.http.post(f"/{job_id}/cancel").raise_for_status()
    platform.wait(job_id)
    return seconds
