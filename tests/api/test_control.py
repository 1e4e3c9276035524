"""Cancelling and retrying jobs."""

from typing import Any

import pytest

from app.jobs.lifecycle import JobStatus
from tests.support.jobs import dispatch, set_job
from tests.support.people import JOBS, People, Person
from tests.support.problems import assert_problem
from tests.support.rows import nothing_written
from tests.support.runs import Stage

CANCEL = pytest.mark.parametrize(
    ("method", "suffix"), [("POST", "/cancel"), ("DELETE", "")], ids=["cancel", "delete"]
)


async def _call(person: Person, job: dict[str, Any], method: str, suffix: str) -> Any:
    return await person.client.request(method, f"{JOBS}/{job['id']}{suffix}")


@CANCEL
async def test_cancel_queued(people: People, method: str, suffix: str) -> None:
    """A job that waits is cancelled at once."""
    person = await people.make()
    job = await person.job()
    answer = await _call(person, job, method, suffix)
    assert answer.status_code == 200
    assert answer.json()["status"] == "CANCELLED"
    job = await person.get(job["id"])
    assert job["completed_at"] is not None
    assert job["cancel_requested"] is True
    assert await person.events(job["id"]) == ["job.created", "job.cancelled"]


@CANCEL
async def test_cancel_dispatched(people: People, stage: Stage, method: str, suffix: str) -> None:
    """A job that lies in Redis is cancelled at once, and its worker is told at the claim."""
    person = await people.make()
    await stage.worker.report()
    job = await person.job()
    attempt = await dispatch(stage.database, stage.dispatcher, job["id"])
    assert (await _call(person, job, method, suffix)).json()["status"] == "CANCELLED"
    assert_problem(await stage.worker.claim(attempt), 410, "ATTEMPT_GONE")


@CANCEL
async def test_cancel_running(people: People, stage: Stage, method: str, suffix: str) -> None:
    """A running job is asked to stop; it is cancelled when its worker says so."""
    person = await people.make()
    job, spec = await stage.running(person)
    for _ in range(2):
        answer = await _call(person, job, method, suffix)
        assert (answer.status_code, answer.json()["status"]) == (200, "RUNNING")
        assert answer.json()["cancel_requested"] is True
    heartbeat = await stage.worker.call(spec, "heartbeat", {})
    assert heartbeat.json()["cancel_requested"] is True
    await stage.worker.call(spec, "finish", {"outcome": "cancelled"})
    assert (await person.get(job["id"]))["status"] == "CANCELLED"
    events = await person.events(job["id"])
    assert events[-2:] == ["job.cancel_requested", "job.cancelled"]


@CANCEL
@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED"])
async def test_cancel_ended(
    people: People, stage: Stage, method: str, suffix: str, status: str
) -> None:
    """A job that has ended cannot be cancelled, and the answer says how it ended."""
    person = await people.make()
    job = await _ended(person, stage, status)
    async with nothing_written(stage.database):
        answer = await _call(person, job, method, suffix)
    assert status in assert_problem(answer, 409, "JOB_STATE_CONFLICT")["detail"]
    assert (await person.get(job["id"]))["status"] == status


async def _ended(person: Person, stage: Stage, status: str) -> dict[str, Any]:
    match status:
        case "SUCCEEDED":
            return await stage.succeeded(person)
        case "FAILED":
            return await stage.failed(person)
    job = await person.job()
    await person.client.post(f"{JOBS}/{job['id']}/cancel")
    if status == "EXPIRED":
        await set_job(stage.database, job["id"], status=JobStatus.EXPIRED)
    return job


@pytest.mark.parametrize("status", ["FAILED", "CANCELLED"])
async def test_retry(people: People, stage: Stage, status: str) -> None:
    """A failed or cancelled job runs again under its id, with a new budget and no old error."""
    person = await people.make()
    job = await _ended(person, stage, status)
    answer = await person.client.post(f"{JOBS}/{job['id']}/retry")
    assert answer.status_code == 200
    retried = answer.json()
    assert (retried["id"], retried["status"]) == (job["id"], "QUEUED")
    assert (retried["attempt"], retried["max_attempts"]) == (0, 3)
    assert retried["error"] is None
    assert retried["cancel_requested"] is False
    assert retried["completed_at"] is retried["expires_at"] is retried["started_at"] is None
    assert (await person.events(job["id"]))[-1] == "job.retried"
    spec = await stage.start(job)
    assert spec.attempt == 1
    await stage.worker.succeed(spec)
    assert (await person.get(job["id"]))["status"] == "SUCCEEDED"


@pytest.mark.parametrize("status", ["QUEUED", "RUNNING", "SUCCEEDED", "EXPIRED"])
async def test_nothing_to_retry(people: People, stage: Stage, status: str) -> None:
    """A job in any other state cannot be retried, and the answer names the state."""
    person = await people.make()
    match status:
        case "QUEUED":
            job = await person.job()
        case "RUNNING":
            job, _ = await stage.running(person)
        case _:
            job = await _ended(person, stage, status)
    async with nothing_written(stage.database):
        answer = await person.client.post(f"{JOBS}/{job['id']}/retry")
    assert status in assert_problem(answer, 409, "JOB_STATE_CONFLICT")["detail"]
    assert (await person.get(job["id"]))["status"] == status
