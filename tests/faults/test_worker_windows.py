"""The same windows with real workers, whose way to the API is broken at the chosen step."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
import redis

from devstack import services, spawn
from devstack.client import Client
from devstack.processes import Service
from tests.faults.cluster import MODEL, Account, Cluster
from tests.faults.proxy import FaultProxy, Mode

PATIENCE = 60.0


@dataclass
class Site:
    """A platform whose only worker reaches the API through a proxy."""

    cluster: Cluster
    proxy: FaultProxy
    worker: Service
    account: Account
    client: Client

    def create(self, **params: Any) -> str:
        """A new job's id."""
        return str(self.client.create_job(MODEL, params)["id"])

    def end_of(self, job_id: str) -> dict[str, Any]:
        """The job when it has ended."""
        *_, ended = self.client.watch(job_id)
        return ended

    def attempts(self, job_id: str) -> list[str]:
        """How each of the job's attempts ended, oldest first."""
        rows = self.cluster.query(
            f"SELECT status FROM attempts WHERE job_id = '{job_id}' ORDER BY id"  # noqa: S608
        )
        return [row["status"] for row in rows]


def wait_until(wanted: Callable[[], object]) -> None:
    """Return as soon as something is so."""
    deadline = time.monotonic() + PATIENCE
    while not wanted():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, FaultProxy]]:
    cluster = Cluster(tmp_path_factory.mktemp("windows"))
    try:
        cluster.start_platform()
        cluster.stack.services["worker"].stop()
        port = cluster.stack.ports.api
        assert port is not None
        with FaultProxy(port) as proxy:
            settings = cluster.stack.settings | {"API_URL": proxy.url}
            folder = cluster.stack.folder / "far"
            far = services.worker(settings, folder, cluster.stack.logs, "far")
            cluster.stack.services["far"] = far.start()
            yield cluster, proxy
    finally:
        cluster.stack.stop()


@pytest.fixture
def site(platform: tuple[Cluster, FaultProxy]) -> Iterator[Site]:
    cluster, proxy = platform
    proxy.heal()
    worker = cluster.stack.services["far"].start()
    account = cluster.add_account()
    with Client(cluster.stack.api_url, account.key) as client:
        yield Site(cluster, proxy, worker, account, client)
    proxy.heal()


@pytest.mark.parametrize("call", [b"/claim", b"/upload-tickets", b"/artifacts", b"/finish"])
def test_call_whose_answer_was_lost(site: Site, call: bytes) -> None:
    """A worker's call that arrived and was not answered is repeated, and counts once."""
    site.proxy.break_requests(Mode.CUT_ANSWER, call)
    job_id = site.create()
    wait_until(site.proxy.hurt.is_set)
    site.proxy.heal()

    assert site.end_of(job_id)["status"] == "SUCCEEDED"
    assert site.attempts(job_id) == ["SUCCEEDED"]
    kinds = [item["kind"] for item in site.client.artifacts(job_id)]
    assert kinds.count("model_3d") == 1


def test_worker_that_was_cut_off_past_its_lease(site: Site) -> None:
    """Another attempt takes over; what the first one made is not shown, nor its report taken."""
    job_id = site.create(seconds=1)
    wait_until(lambda: site.attempts(job_id) == ["RUNNING"])
    site.proxy.break_requests(Mode.BLACK_HOLE, b"/attempts/")
    wait_until(lambda: site.attempts(job_id)[0] == "LOST")
    site.proxy.heal()

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
    site.proxy.break_requests(Mode.BLACK_HOLE, b"/claim")
    job_id = site.create()
    wait_until(site.proxy.hurt.is_set)
    children = spawn.descendants(site.worker.pid)
    psutil.Process(site.worker.pid).kill()
    # Until all its threads have ended, which is when it can be started again.
    wait_until(lambda: not site.worker.running)
    site.proxy.heal()
    with redis.Redis.from_url(site.cluster.stack.redis_url) as connection:
        assert connection.zcard("rq:wip:cpu") == 1
    site.worker.start()

    assert site.end_of(job_id)["status"] == "SUCCEEDED"
    assert site.attempts(job_id) == ["SUCCEEDED"]
    assert not any(child.is_running() for child in children)


def test_poison_job(site: Site) -> None:
    """A job that kills whatever runs it fails after three attempts, and the next one succeeds."""
    poison = site.create(poison=True)
    harmless = site.create()

    ended = site.end_of(poison)
    assert (ended["status"], ended["error"]["code"]) == ("FAILED", "WORKER_CRASHED")
    assert site.attempts(poison) == ["FAILED"] * 3
    assert site.end_of(harmless)["status"] == "SUCCEEDED"
    assert site.worker.running


def test_slow_way_to_the_api(site: Site) -> None:
    """A worker whose every call arrives half a second late keeps its lease and delivers."""
    site.proxy.break_requests(Mode.DELAY)
    job_id = site.create(seconds=2)

    assert site.end_of(job_id)["status"] == "SUCCEEDED"
    assert site.attempts(job_id) == ["SUCCEEDED"]
