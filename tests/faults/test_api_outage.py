"""The API is gone for half a minute, six leases long, and no run is made twice."""

import time
from collections.abc import Callable, Iterator

import pytest

from devstack import services
from devstack.client import Client
from tests.faults.cluster import LEASE_SECONDS, MODEL, Account, Cluster
from tests.faults.proxy import FaultProxy, Mode

PATIENCE = 60.0
OUTAGE_SECONDS = 30.0
RUN_SECONDS = 40.0


def wait_until(wanted: Callable[[], object]) -> None:
    """Return as soon as something is so."""
    deadline = time.monotonic() + PATIENCE
    while not wanted():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("outage"))
    try:
        cluster.start_platform()
        yield cluster
    finally:
        cluster.stack.stop()


@pytest.fixture
def account(cluster: Cluster) -> Account:
    return cluster.add_account()


@pytest.fixture
def proxy(cluster: Cluster) -> Iterator[FaultProxy]:
    """The second worker's way to the API."""
    port = cluster.stack.ports.api
    assert port is not None
    with FaultProxy(port) as proxy:
        yield proxy


def attempts(cluster: Cluster, job_id: str) -> list[str]:
    """How each of a job's attempts stands, oldest first."""
    rows = cluster.query(
        f"SELECT status FROM attempts WHERE job_id = '{job_id}' ORDER BY id"  # noqa: S608
    )
    return [row["status"] for row in rows]


def events(cluster: Cluster, job_id: str) -> list[str]:
    """What has happened to a job, oldest first."""
    rows = cluster.query(
        f"SELECT type FROM job_events WHERE job_id = '{job_id}' ORDER BY id"  # noqa: S608
    )
    return [row["type"] for row in rows]


def test_api_that_dies_in_mid_job_and_at_the_moment_of_finishing(
    cluster: Cluster, account: Account, proxy: FaultProxy
) -> None:
    """One run outlasts the outage, another one's report falls into it: each counts once."""
    assert OUTAGE_SECONDS > 2 * LEASE_SECONDS
    stack = cluster.stack
    with Client(stack.api_url, account.key) as client:
        running = str(client.create_job(MODEL, {"seconds": RUN_SECONDS})["id"])
        wait_until(lambda: attempts(cluster, running) == ["RUNNING"])
        # The first worker is busy now, so the other one takes the other job.
        settings = stack.settings | {"API_URL": proxy.url}
        far = services.worker(settings, stack.folder / "far", stack.logs, "far")
        stack.services["far"] = far.start()
        proxy.break_requests(Mode.CUT_ANSWER, b"/finish")
        finishing = str(client.create_job(MODEL, {})["id"])
        wait_until(proxy.hurt.is_set)
        stack.services["api"].kill()
        proxy.heal()

        time.sleep(OUTAGE_SECONDS)
        assert attempts(cluster, running) == ["RUNNING"]
        stack.services["api"].start()

        for job_id in (finishing, running):
            *_, ended = client.watch(job_id)
            assert (ended["status"], ended["attempt"]) == ("SUCCEEDED", 1)
            assert attempts(cluster, job_id) == ["SUCCEEDED"]
            told = events(cluster, job_id)
            assert [told.count(kind) for kind in ("job.started", "job.succeeded")] == [1, 1]
            kinds = [item["kind"] for item in client.artifacts(job_id)]
            assert kinds.count("model_3d") == 1
    log = (stack.logs / "far.log").read_text()
    assert "finish.retry" in log
    assert log.count('"claim.granted"') == 1
