"""The same windows with real workers, whose way to the API is broken at the chosen step."""

import psutil  # type: ignore[import-untyped]
import pytest
import redis

from devstack import spawn
from tests.faults.proxy import Mode
from tests.faults.site import Site, wait_until


@pytest.mark.parametrize("call", [b"/claim", b"/upload-tickets", b"/artifacts", b"/finish"])
def test_call_whose_answer_was_lost(site: Site, call: bytes) -> None:
    """A worker's call that arrived and was not answered is repeated, and counts once."""
    site.way("api").break_requests(Mode.CUT_ANSWER, call)
    # Large enough to be committed by itself, and not with the report.
    job_id = site.create(noise_bytes=2 << 20)
    wait_until(site.way("api").hurt.is_set)
    site.way("api").heal()

    site.succeeds_once(job_id)


def test_worker_that_was_cut_off_past_its_lease(site: Site) -> None:
    """Another attempt takes over; what the first one made is not shown, nor its report taken."""
    job_id = site.create(seconds=1)
    wait_until(lambda: site.attempts(job_id) == ["RUNNING"])
    site.way("api").break_requests(Mode.BLACK_HOLE, b"/attempts/")
    wait_until(lambda: site.attempts(job_id)[0] == "LOST")
    site.way("api").heal()

    ended = site.end_of(job_id)
    assert (ended["status"], ended["attempt"]) == ("SUCCEEDED", 2)
    assert site.attempts(job_id) == ["LOST", "SUCCEEDED"]
    winner = site.cluster.query(
        f"SELECT id FROM attempts WHERE job_id = '{job_id}' AND status = 'SUCCEEDED'"  # noqa: S608
    )[0]["id"]
    urls = [item["url"] for item in site.client.artifacts(job_id)]
    assert all(f"/{job_id}/{winner}/" in url for url in urls)


def test_worker_killed_between_pop_and_claim(site: Site) -> None:
    """The task it took is pushed again, though RQ's note of it says that a worker has it."""
    site.way("api").break_requests(Mode.BLACK_HOLE, b"/claim")
    job_id = site.create()
    wait_until(site.way("api").hurt.is_set)
    children = spawn.descendants(site.process("worker").pid)
    psutil.Process(site.process("worker").pid).kill()
    # Until all its threads have ended, which is when it can be started again.
    wait_until(lambda: not site.process("worker").running)
    site.way("api").heal()
    popped = site.cluster.query(
        f"SELECT current_attempt_id FROM jobs WHERE id = '{job_id}'"  # noqa: S608
    )[0]["current_attempt_id"]
    with redis.Redis.from_url(site.cluster.stack.redis_url, decode_responses=True) as connection:
        # Beside those that the tests before this one may have left.
        assert any(str(popped) in note for note in connection.zrange("rq:wip:cpu", 0, -1))
    site.process("worker").start()

    site.succeeds_once(job_id)
    assert not any(child.is_running() for child in children)


def test_poison_job(site: Site) -> None:
    """A job that kills whatever runs it fails after three attempts, and the next one succeeds."""
    poison = site.create(poison=True)
    harmless = site.create()

    ended = site.end_of(poison)
    assert (ended["status"], ended["error"]["code"]) == ("FAILED", "WORKER_CRASHED")
    assert site.attempts(poison) == ["FAILED"] * 3
    assert site.end_of(harmless)["status"] == "SUCCEEDED"
    assert site.process("worker").running


def test_slow_way_to_the_api(site: Site) -> None:
    """A worker whose every call arrives late keeps its lease and delivers."""
    site.way("api").break_requests(Mode.DELAY)
    job_id = site.create(seconds=2)

    site.succeeds_once(job_id)
