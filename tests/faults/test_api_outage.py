"""The API is gone for half a minute, six leases long, and no run is made twice."""

import time
from collections.abc import Iterator

import pytest

from tests.faults.cluster import LEASE_SECONDS
from tests.faults.proxy import FaultProxy, Mode
from tests.faults.site import Site, wait_until

OUTAGE_SECONDS = 30.0
RUN_SECONDS = 40.0


@pytest.fixture
def own_way(site: Site) -> Iterator[FaultProxy]:
    """The second worker's way to the API."""
    with FaultProxy(site.way("api").target_port) as way:
        site.cluster.worker("far", API_URL=way.url)
        yield way
        site.cluster.stack.services.pop("far").kill()


def events(site: Site, job_id: str) -> list[str]:
    """What has happened to a job, oldest first."""
    rows = site.cluster.query(
        f"SELECT type FROM job_events WHERE job_id = '{job_id}' ORDER BY id"  # noqa: S608
    )
    return [row["type"] for row in rows]


def test_api_that_dies_in_mid_job_and_at_the_moment_of_finishing(
    site: Site, own_way: FaultProxy
) -> None:
    """One run outlasts the outage, another one's report falls into it: each counts once."""
    assert OUTAGE_SECONDS > 2 * LEASE_SECONDS
    running = site.create(seconds=RUN_SECONDS)
    wait_until(lambda: site.attempts(running) == ["RUNNING"])
    # The first worker is busy now, so the other one takes the other job.
    site.process("far").start()
    own_way.break_requests(Mode.CUT_ANSWER, b"/finish")
    finishing = site.create()
    wait_until(own_way.hurt.is_set)
    site.process("api").kill()
    own_way.heal()

    time.sleep(OUTAGE_SECONDS)
    assert site.attempts(running) == ["RUNNING"]
    site.process("api").start()

    for job_id in (finishing, running):
        assert site.end_of(job_id)["attempt"] == 1
        site.succeeds_once(job_id)
        told = events(site, job_id)
        assert [told.count(kind) for kind in ("job.started", "job.succeeded")] == [1, 1]
    log = (site.cluster.stack.logs / "far.log").read_text()
    assert "finish.retry" in log
    assert log.count('"claim.granted"') == 1
