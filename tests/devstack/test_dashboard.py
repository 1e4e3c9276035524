"""The dashboard with a real Redis and a worker that is busy with a JSON task."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis
from rq import Queue, Worker
from rq.job import Job
from rq.serializers import JSONSerializer

from app.config import PLACEHOLDER
from devstack import ports, services
from devstack.servers import RedisServer
from devstack.settings import ROOT, fresh_settings

FAILED = "failed-task"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Settings with a Redis that has one busy worker and one failed task."""
    with (
        RedisServer(tmp_path_factory.mktemp("redis"), password=True) as server,
        redis.Redis.from_url(server.url) as client,
    ):
        queue = Queue("cpu", connection=client, serializer=JSONSerializer)
        failed = queue.enqueue("worker_vm.tasks.run_attempt", "a", job_id=FAILED)
        busy = queue.enqueue("worker_vm.tasks.run_attempt", "b", job_id="busy-task")
        queue.remove(failed)
        queue.remove(busy)
        failed.set_status("failed")
        failed.failed_job_registry.add(failed, ttl=-1)
        worker = Worker([queue], connection=client, serializer=JSONSerializer)
        worker.register_birth()
        worker.set_state("busy")
        worker.set_current_job_id(busy.id)
        yield fresh_settings() | {"REDIS_URL": server.url}
        worker.register_death()


@pytest.fixture(scope="module")
def browser(
    settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """Somebody who has logged in."""
    port = ports.free_port()
    dashboard = services.dashboard(settings, port, tmp_path_factory.mktemp("logs")).start()
    login = (settings["RQ_DASHBOARD_USERNAME"], settings["RQ_DASHBOARD_PASSWORD"])
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", auth=login) as client:
        yield client
    dashboard.stop()


def test_login_is_required(browser: httpx.Client) -> None:
    """Without the login, or with a wrong one, there is nothing to see."""
    assert httpx.get(browser.base_url.join("/")).status_code == 401
    assert httpx.get(browser.base_url.join("/"), auth=("admin", "wrong")).status_code == 401
    assert browser.get("/").status_code == 200


def test_busy_worker_is_shown(browser: httpx.Client) -> None:
    """The list of workers answers while one is busy with a JSON task."""
    (worker,) = browser.get("/0/data/workers.json").raise_for_status().json()["workers"]
    assert worker["state"] == "busy"
    assert "run_attempt('b')" in worker["current_job"]["call_string"]


@pytest.mark.parametrize(
    "path",
    [
        "/0/data/queues.json",
        "/0/data/jobs/cpu/failed/8/asc/1.json",
        f"/0/data/job/{FAILED}.json",
        f"/0/view/job/{FAILED}",
        "/0/view/workers",
        "/0/view/jobs",
    ],
)
def test_pages_answer(browser: httpx.Client, path: str) -> None:
    """Every page works with JSON tasks."""
    assert browser.get(path).status_code == 200


def test_another_site_changes_nothing(browser: httpx.Client) -> None:
    """Neither a link nor a form on another site requeues or deletes, although the login is sent."""
    assert browser.get("/requeue/cpu").status_code == 403
    assert browser.head("/requeue/cpu").status_code == 403
    foreign = {"Sec-Fetch-Site": "cross-site"}
    assert browser.post("/requeue/cpu", headers=foreign).status_code == 403
    assert browser.post(f"/job/{FAILED}/delete", headers=foreign).status_code == 403
    assert browser.get(f"/0/data/job/{FAILED}.json").json()["status"] == "failed"


def test_requeued_task_is_still_json(browser: httpx.Client, settings: dict[str, str]) -> None:
    """Requeueing from the page leaves a task that our workers can read."""
    answer = browser.post(f"/job/{FAILED}/requeue", headers={"Sec-Fetch-Site": "same-origin"})
    assert answer.json() == {"status": "OK"}
    with redis.Redis.from_url(settings["REDIS_URL"]) as client:
        job = Job.fetch(FAILED, connection=client, serializer=JSONSerializer)
        assert job.args == ["a"]
        assert job.get_status() == "queued"


def test_no_address_changes_anything_by_itself(settings: dict[str, str], tmp_path: Path) -> None:
    """Nor does a GET requeue where the dashboard stands below another path."""
    port = ports.free_port()
    prefixed = settings | {"RQ_DASHBOARD_URL_PREFIX": "/rq"}
    service = services.dashboard(prefixed, port, tmp_path).start(wait=False)
    login = (settings["RQ_DASHBOARD_USERNAME"], settings["RQ_DASHBOARD_PASSWORD"])
    try:
        while services.http_status(port, "/rq/") != httpx.codes.UNAUTHORIZED:
            assert service.running, service.describe_end()
            time.sleep(0.05)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/rq", auth=login) as client:
            assert client.get("/").status_code == 200
            assert client.get("/requeue/cpu").status_code == 403
    finally:
        service.stop()


@pytest.mark.parametrize(
    ("password", "said"),
    [
        (None, "RQ_DASHBOARD_PASSWORD is not set"),
        (PLACEHOLDER, "RQ_DASHBOARD_PASSWORD still has the value of .env.example"),
    ],
)
def test_missing_password_stops_it(
    settings: dict[str, str], tmp_path: Path, password: str | None, said: str
) -> None:
    """It never starts without a login of its own, and names the setting."""
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "REDIS_URL": settings["REDIS_URL"],
        "RQ_DASHBOARD_USERNAME": "admin",
        **({"RQ_DASHBOARD_PASSWORD": password} if password else {}),
    }
    done = subprocess.run(
        [sys.executable, "-m", "app.dashboard"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert said in done.stderr
