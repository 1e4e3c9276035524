"""Workers whose clock is an hour off: no time of theirs decides anything."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
import redis

from devstack import spawn
from devstack.processes import Service
from tests.faults.cluster import Cluster
from tests.faults.proxy import Mode
from tests.faults.site import Site, wait_until

HOUR = 3600
WRONG_CLOCK = Path(__file__).parent / "wrong_clock"


def with_wrong_clock(cluster: Cluster, name: str, seconds: int) -> Service:
    """A worker whose processes, all of them, are so many seconds ahead."""
    worker = cluster.worker(name)
    path = f"{WRONG_CLOCK}{os.pathsep}{worker._env['PYTHONPATH']}"
    worker._env |= {"WRONG_CLOCK_SECONDS": str(seconds), "PYTHONPATH": path}
    return worker


@pytest.fixture(params=[HOUR, -HOUR], ids=["ahead", "behind"])
def wrong(site: Site, request: pytest.FixtureRequest) -> Iterator[Service]:
    """The only worker, an hour off."""
    site.process("worker").stop()
    worker = with_wrong_clock(site.cluster, "wrong", request.param)
    yield worker.start()
    worker.kill()
    del site.cluster.stack.services["wrong"]


def _born(site: Site, worker: Service) -> datetime:
    """When a worker was started, by its own clock."""
    with redis.Redis.from_url(site.cluster.stack.redis_url, decode_responses=True) as connection:
        for key in connection.smembers("rq:workers"):
            if connection.hget(key, "pid") == str(worker.pid):
                return datetime.fromisoformat(connection.hget(key, "birth"))
    raise AssertionError


def test_job_of_a_worker_with_a_wrong_clock(site: Site, wrong: Service, tmp_path: Path) -> None:
    """It runs once, with presigned inputs and longer than a lease; all times are the platform's."""
    assert abs(_born(site, wrong) - datetime.now(UTC)) > timedelta(minutes=50)
    begun = datetime.now(UTC)
    job_id = site.create(seconds=7)
    site.succeeds_once(job_id)

    times = site.cluster.query(
        "SELECT created_at, started_at, completed_at FROM jobs WHERE"  # noqa: S608
        f" id = '{job_id}' UNION ALL SELECT dispatched_at, started_at, finished_at FROM attempts"
        f" WHERE job_id = '{job_id}' UNION ALL SELECT created_at, created_at, created_at"
        f" FROM job_events WHERE job_id = '{job_id}'"
    )
    found = [datetime.fromisoformat(value) for row in times for value in row.values()]
    assert all(begun <= at <= datetime.now(UTC) for at in found)


def test_wrong_clock_killed_between_pop_and_claim(site: Site, wrong: Service) -> None:
    """RQ's note that it has the task, good for an hour to come or long over, holds nobody up."""
    site.way("api").break_requests(Mode.BLACK_HOLE, b"/claim")
    job_id = site.create()
    wait_until(site.way("api").hurt.is_set)
    children = spawn.descendants(wrong.pid)
    psutil.Process(wrong.pid).kill()
    site.cluster.heal()
    site.process("worker").start()

    site.succeeds_once(job_id)
    assert not any(child.is_running() for child in children)


@pytest.mark.parametrize("hours", [-1, 1])
def test_wrong_clock_beside_a_right_one(site: Site, hours: int) -> None:
    """A worker that tidies RQ's lists up by a wrong clock does not disturb who is at work."""
    job_id = site.create(seconds=4)
    wait_until(lambda: site.attempts(job_id) == ["RUNNING"])
    worker = with_wrong_clock(site.cluster, "wrong", hours * HOUR).start()
    try:
        site.succeeds_once(job_id)
    finally:
        worker.kill()
        del site.cluster.stack.services["wrong"]
