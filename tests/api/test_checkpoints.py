"""Checkpoints: the next attempt gets the newest, and nothing keeps the others."""

from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import text

from app.queueing.retention import delete_unused_objects, expire_jobs
from app.storage.base import ObjectStore
from contract.attempts import InputFile, JobSpec
from tests.support.jobs import dispatch, make_due
from tests.support.people import JOBS, People, Person
from tests.support.problems import assert_problem
from tests.support.rows import nothing_written
from tests.support.runs import Stage


@pytest.fixture
async def ada(people: People) -> Person:
    return await people.make()


async def leave(stage: Stage, spec: JobSpec, percent: int) -> str:
    """Upload and commit a checkpoint."""
    return await stage.worker.upload(
        spec,
        f"{percent} %".encode(),
        kind="checkpoint",
        name=f"checkpoint-{percent}.bin",
        media_type="application/octet-stream",
    )


async def next_attempt(stage: Stage, job: dict[str, Any]) -> JobSpec:
    """The job's next attempt, claimed without waiting."""
    await make_due(stage.database, job["id"])
    return await stage.start(job)


async def content(item: InputFile | None) -> str:
    """What a worker downloads."""
    assert item is not None
    async with httpx.AsyncClient(trust_env=False) as storage:
        answer = await storage.get(item.url, headers={"If-Match": f'"{item.etag}"'})
    assert (answer.status_code, len(answer.content)) == (200, item.size_bytes)
    return answer.text


async def checkpoints_in_storage(stage: Stage, store: ObjectStore) -> list[str]:
    """Names of the checkpoints of which there is an object, once retention has been there."""
    await delete_unused_objects(stage.database, store)
    async with stage.database.transaction() as session:
        tickets = (
            await session.execute(
                text("SELECT name, object_key FROM upload_tickets WHERE kind = 'checkpoint'")
            )
        ).all()
    return [ticket.name for ticket in tickets if await store.read_start(ticket.object_key, 1)]


async def test_the_next_attempt_gets_it(ada: Person, stage: Stage) -> None:
    """After a failure the next attempt is given what the failed one left; a new job is not."""
    job, spec = await stage.running(ada)
    assert spec.checkpoint is None
    await leave(stage, spec, 60)
    await stage.worker.fail(spec)

    again = await next_attempt(stage, job)
    assert (again.attempt, len(again.inputs)) == (2, 1)
    assert await content(again.checkpoint) == "60 %"
    assert (await stage.running(ada))[1].checkpoint is None


async def test_only_the_newest_is_kept(ada: Person, stage: Stage, store: ObjectStore) -> None:
    """A newer one takes the place of all before it, whichever attempt made them."""
    job, spec = await stage.running(ada)
    await leave(stage, spec, 20)
    await leave(stage, spec, 40)
    assert await checkpoints_in_storage(stage, store) == ["checkpoint-40.bin"]
    await stage.worker.fail(spec)
    second = await next_attempt(stage, job)
    assert await content(second.checkpoint) == "40 %"
    assert await checkpoints_in_storage(stage, store) == ["checkpoint-40.bin"]
    await leave(stage, second, 60)
    assert await checkpoints_in_storage(stage, store) == ["checkpoint-60.bin"]
    shown = (await ada.client.get(f"{JOBS}/{job['id']}/artifacts")).json()["items"]
    assert [item["name"] for item in shown if item["kind"] == "checkpoint"] == ["checkpoint-60.bin"]


async def test_success_ends_them(ada: Person, stage: Stage, store: ObjectStore) -> None:
    """A job that has succeeded keeps no checkpoint, its own attempt's or an earlier one's."""
    for leave_one_more in (False, True):
        job, spec = await stage.running(ada)
        await leave(stage, spec, 60)
        await stage.worker.fail(spec)
        spec = await next_attempt(stage, job)
        if leave_one_more:
            await leave(stage, spec, 80)
        assert (await stage.worker.succeed(spec)).status_code == 200
        shown = (await ada.client.get(f"{JOBS}/{job['id']}/artifacts")).json()["items"]
        assert {item["kind"] for item in shown} == {"input", "model_3d"}
    assert await checkpoints_in_storage(stage, store) == []


async def test_a_retried_job_gets_it(ada: Person, stage: Stage) -> None:
    """A job that has failed for good, or was cancelled, and is retried goes on where it was."""
    job, spec = await stage.running(ada)
    await leave(stage, spec, 60)
    await stage.worker.fail(spec, permanent=True)
    assert (await ada.client.post(f"{JOBS}/{job['id']}/retry")).status_code == 200
    spec = await next_attempt(stage, job)
    assert await content(spec.checkpoint) == "60 %"

    await ada.client.post(f"{JOBS}/{job['id']}/cancel")
    await leave(stage, spec, 80)
    await stage.worker.call(spec, "finish", {"outcome": "cancelled"})
    assert (await ada.client.post(f"{JOBS}/{job['id']}/retry")).status_code == 200
    assert await content((await next_attempt(stage, job)).checkpoint) == "80 %"


async def test_a_repeated_claim_answers_the_same(ada: Person, stage: Stage) -> None:
    """The claim again is given the same file, and never one that its own run has made."""
    job, spec = await stage.running(ada)
    await leave(stage, spec, 60)
    await stage.worker.fail(spec)
    await make_due(stage.database, job["id"])
    attempt_id = await dispatch(stage.database, stage.dispatcher, job["id"])
    claim_id = uuid4()

    async def claim() -> JobSpec:
        return JobSpec.model_validate((await stage.worker.claim(attempt_id, claim_id)).json())

    assert await content((await claim()).checkpoint) == "60 %"
    again = await claim()
    assert await content(again.checkpoint) == "60 %"
    await leave(stage, again, 80)
    assert (await claim()).checkpoint is None


async def test_an_outdated_one_does_not_come_back(ada: Person, stage: Stage) -> None:
    """The commit of an older one, arriving once more, is refused and costs nothing."""
    job, spec = await stage.running(ada)
    older = await leave(stage, spec, 20)
    await leave(stage, spec, 40)
    async with nothing_written(stage.database):
        answer = await stage.worker.call(spec, "artifacts", {"ticket_id": older})
    assert_problem(answer, 404, "TICKET_NOT_FOUND")
    await stage.worker.fail(spec)
    assert await content((await next_attempt(stage, job)).checkpoint) == "40 %"


async def test_it_goes_with_its_job(ada: Person, stage: Stage, store: ObjectStore) -> None:
    """An expired job's checkpoint is deleted like its other files."""
    _, spec = await stage.running(ada)
    await leave(stage, spec, 60)
    await stage.worker.fail(spec, permanent=True)
    assert await checkpoints_in_storage(stage, store) == ["checkpoint-60.bin"]
    async with stage.database.transaction() as session:
        await session.execute(text("UPDATE jobs SET expires_at = now() - interval '1 s'"))
    await expire_jobs(stage.database)
    assert await checkpoints_in_storage(stage, store) == []
