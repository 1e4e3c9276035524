"""Runs that take long: nothing is lost that was reached, whoever ends them."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from devstack.client import Client
from devstack.processes import Service
from devstack.stack import Stack


@pytest.fixture
def worker(stack: Stack) -> Iterator[Service]:
    """The only worker; whatever becomes of it, one lives again afterwards."""
    yield stack.services["worker"]
    if not stack.services["worker"].running:
        stack.services["worker"].start()


@pytest.fixture
def api(stack: Stack) -> Iterator[Service]:
    """The only API; whatever becomes of it, one answers again afterwards."""
    yield stack.services["api"]
    if not stack.services["api"].running:
        stack.services["api"].start()


def post(stack: Stack, path: str) -> None:
    """A call that a client makes of a job."""
    answer = httpx.post(
        f"{stack.api_url}/api/v1/jobs/{path}",
        headers={"x-api-key": stack.admin_api_key},
        trust_env=False,
    )
    assert answer.is_success, answer.text


def wait_for(client: Client, job_id: str, wanted: Callable[[], object]) -> None:
    """Return as soon as something is so, while the job goes on."""
    for _ in client.watch(job_id):
        if wanted():
            return
    raise AssertionError("it ended before")


def names(client: Client, job_id: str) -> list[str]:
    """The files that people see of a job."""
    return sorted(item["name"] for item in client.artifacts(job_id))


def manifest(client: Client, job_id: str, folder: Path) -> dict[str, Any]:
    """What the job's manifest says."""
    (url,) = [item["url"] for item in client.artifacts(job_id) if item["kind"] == "manifest"]
    client.download(url, folder / "manifest.json")
    content: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return content


def test_killed_machine(
    stack: Stack, client: Client, worker: Service, stepwise: str, tmp_path: Path
) -> None:
    """A machine that dies for good at 60 % costs 40 %: the next one goes on from the checkpoint."""
    job_id = client.create_job(stepwise, {"hold_at": 60})["id"]
    wait_for(client, job_id, lambda: "checkpoint-60.bin" in names(client, job_id))
    for process in [*psutil.Process(worker.pid).children(recursive=True), worker]:
        process.kill()
    for folder in Path(stack.settings["WORKER_WORK_DIR"]).iterdir():
        shutil.rmtree(folder)
    worker.start()

    *_, ended = client.watch(job_id)
    assert (ended["status"], ended["attempt"]) == ("SUCCEEDED", 2)
    assert manifest(client, job_id, tmp_path)["began_at"] == 60
    assert names(client, job_id) == ["manifest.json", "model.glb", "run.log"]


def test_cancelled_run(stack: Stack, client: Client, stepwise: str, tmp_path: Path) -> None:
    """A cancelled run shows how far it came; retried, it goes on from there."""
    job_id = client.create_job(stepwise, {"hold_at": 40})["id"]
    wait_for(client, job_id, lambda: "checkpoint-40.bin" in names(client, job_id))
    post(stack, f"{job_id}/cancel")

    *_, ended = client.watch(job_id)
    assert ended["status"] == "CANCELLED"
    partial = ["checkpoint-40.bin", "manifest.json", "model.glb", "run.log"]
    assert names(client, job_id) == partial
    assert manifest(client, job_id, tmp_path)["percent"] == 40

    post(stack, f"{job_id}/retry")
    *_, ended = client.watch(job_id)
    assert ended["status"] == "SUCCEEDED"
    assert manifest(client, job_id, tmp_path)["began_at"] == 40


def steps(client: Client, job_id: str, attempt: int) -> list[int]:
    """What one attempt of a job has told on its way; 1 is the first."""
    events = client.events(job_id, "walk.*")
    attempts = list(dict.fromkeys(event["attempt_id"] for event in events))
    if len(attempts) < attempt:
        return []
    return [e["data"]["percent"] for e in events if e["attempt_id"] == attempts[attempt - 1]]


def test_detected_events(
    stack: Stack, client: Client, worker: Service, api: Service, stepwise: str
) -> None:
    """What a pipeline tells is seen while it runs; neither outages nor a kill lose or double it."""
    job_id = client.create_job(stepwise, {"hold_at": 60})["id"]
    wait_for(client, job_id, lambda: steps(client, job_id, 1) == [20, 40, 60])
    api.kill()
    api.start()
    wait_for(client, job_id, lambda: "checkpoint-60.bin" in names(client, job_id))
    for process in [*psutil.Process(worker.pid).children(recursive=True), worker]:
        process.kill()
    worker.start()

    *_, ended = client.watch(job_id)
    assert (ended["status"], ended["attempt"]) == ("SUCCEEDED", 2)
    assert steps(client, job_id, 1) == [20, 40, 60]
    assert steps(client, job_id, 2) == [80, 100]
