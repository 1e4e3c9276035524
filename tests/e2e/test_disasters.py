"""Things die in the middle of jobs, and the jobs succeed all the same."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import psutil
import pytest
import redis
from PIL import Image

from devstack.client import Client
from devstack.processes import Service
from devstack.stack import Stack
from tests.e2e.conftest import SAMPLE

PATIENCE = 120.0


@pytest.fixture(scope="module")
def picture(stack: Stack) -> str:
    """An uploaded picture, for any number of jobs."""
    with Client(stack.api_url, stack.admin_api_key) as client:
        return client.upload(SAMPLE)


@pytest.fixture
def worker(stack: Stack) -> Iterator[Service]:
    """The only worker; whatever becomes of it, one lives again afterwards."""
    yield stack.services["worker"]
    if not stack.services["worker"].running:
        stack.services["worker"].start()


def wait_for(client: Client, job_id: str, wanted: Callable[[dict[str, Any]], bool]) -> dict:
    """The first look at a job that is as wanted."""
    for look in client.watch(job_id):
        if wanted(look):
            return look
    raise AssertionError(f"it ended before: {look}")


def end_of(client: Client, job_id: str) -> dict[str, Any]:
    """The job when it has ended."""
    *_, ended = client.watch(job_id)
    return ended


def working(job: dict[str, Any]) -> bool:
    """Whether its pipeline has begun."""
    return job["status"] == "RUNNING" and job["progress_percent"] > 0


def kill_with_children(pid: int) -> None:
    """SIGKILL a process and all it has started, as when a machine loses power."""
    family = [*psutil.Process(pid).children(recursive=True), psutil.Process(pid)]
    for process in family:
        process.kill()
    psutil.wait_procs(family, timeout=10)


def test_killed_machine(client: Client, stack: Stack, worker: Service, picture: str) -> None:
    """The worker's machine dies in mid-job: another one takes over and the job succeeds."""
    job = client.create_job("inflate-v1", {"image_path": picture})
    wait_for(client, job["id"], working)
    kill_with_children(worker.pid)
    stack.services["worker"].start()

    ended = end_of(client, job["id"])

    assert ended["status"] == "SUCCEEDED"
    assert ended["attempt"] == 2


def test_killed_run(client: Client, worker: Service, picture: str) -> None:
    """Only the process that runs the pipeline dies: the job succeeds on the same worker."""
    job = client.create_job("inflate-v1", {"image_path": picture})
    wait_for(client, job["id"], working)
    for child in psutil.Process(worker.pid).children(recursive=True):
        child.kill()

    ended = end_of(client, job["id"])

    assert ended["status"] == "SUCCEEDED"
    assert worker.running


def test_flushed_redis(client: Client, stack: Stack, picture: str) -> None:
    """Redis forgets everything while one job runs and others wait: all succeed."""
    jobs = [client.create_job("inflate-v1", {"image_path": picture}) for _ in range(3)]
    wait_for(client, jobs[0]["id"], working)
    with redis.Redis.from_url(stack.redis_url) as connection:
        connection.flushall()

    assert [end_of(client, job["id"])["status"] for job in jobs] == ["SUCCEEDED"] * 3


def test_restarted_orchestrator(client: Client, stack: Stack, picture: str) -> None:
    """API and dispatcher are killed while a job runs: it succeeds when they are back."""
    job = client.create_job("inflate-v1", {"image_path": picture})
    wait_for(client, job["id"], working)
    for name in ("api", "dispatcher"):
        stack.services[name].kill()
    for name in ("api", "dispatcher"):
        stack.services[name].start()

    assert end_of(client, job["id"])["status"] == "SUCCEEDED"


def test_cancelled_in_mid_job(client: Client, stack: Stack, worker: Service, picture: str) -> None:
    """A running job that is cancelled stops, and the worker takes the next one."""
    job = client.create_job("inflate-v1", {"image_path": picture, "texture_resolution": 2048})
    wait_for(client, job["id"], working)
    answer = httpx.post(
        f"{stack.api_url}/api/v1/jobs/{job['id']}/cancel",
        headers={"x-api-key": stack.admin_api_key},
    )
    after = client.create_job("inflate-v1", {"image_path": picture})

    assert answer.json()["cancel_requested"] is True
    assert end_of(client, job["id"])["status"] == "CANCELLED"
    assert end_of(client, after["id"])["status"] == "SUCCEEDED"
    assert worker.running


def test_dashboard_shows_a_busy_worker(client: Client, stack: Stack, picture: str) -> None:
    """rq-dashboard wants a login, and lists the worker with the attempt it runs."""
    settings = stack.settings
    login = (settings["RQ_DASHBOARD_USERNAME"], settings["RQ_DASHBOARD_PASSWORD"])
    job = client.create_job("inflate-v1", {"image_path": picture})
    wait_for(client, job["id"], working)
    page = f"{stack.dashboard_url}/0/data/workers.json"

    workers = httpx.get(page, auth=login).json()["workers"]

    assert httpx.get(page).status_code == 401
    assert [worker["state"].rpartition(".")[2].lower() for worker in workers] == ["busy"]
    assert end_of(client, job["id"])["status"] == "SUCCEEDED"


def test_bad_picture_fails_with_advice(client: Client, tmp_path) -> None:
    """A picture without a subject fails for good, with a code and a sentence on what to do."""
    plain = tmp_path / "plain.png"
    Image.new("RGB", (256, 256), (120, 120, 120)).save(plain)
    job = client.create_job("inflate-v1", {"image_path": client.upload(plain)})

    ended = end_of(client, job["id"])

    assert ended["status"] == "FAILED"
    assert ended["error"]["code"].startswith("CUTOUT_")
    assert ended["error"]["permanent"] is True
    assert "transparen" in ended["error"]["message"] or "box" in ended["error"]["message"]
    assert ended["attempt"] == 1


def test_terminated_worker_finishes_its_job(
    client: Client, stack: Stack, worker: Service, picture: str
) -> None:
    """SIGTERM lets the running job end well, and then the worker is gone with status 0."""
    job = client.create_job("inflate-v1", {"image_path": picture})
    wait_for(client, job["id"], working)
    os.kill(worker.pid, signal.SIGTERM)

    ended = end_of(client, job["id"])
    deadline = time.monotonic() + PATIENCE
    while worker.running and time.monotonic() < deadline:
        time.sleep(0.1)

    assert (ended["status"], ended["attempt"]) == ("SUCCEEDED", 1)
    assert worker.status == 0
