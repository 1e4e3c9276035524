"""What people use is counted, shown to them, and bounded."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text

from app.accounts.roles import Role
from app.config import Settings
from app.db.session import Database
from app.queueing.retention import delete_unused_objects
from app.storage.base import ObjectStore
from tests.support.apps import another_app
from tests.support.jobs import current_attempt_id, dispatch, end_lease, set_job
from tests.support.people import JOBS, People, Person, png_bytes
from tests.support.problems import assert_problem
from tests.support.rows import nothing_written
from tests.support.runs import Stage
from tests.support.worker import GLB

USAGE = "/api/v1/usage"
TEXT_JOB: dict[str, Any] = {
    "model_id": "dreamfusion-sd",
    "prompt": "a teapot",
    "input_params": {},
}


async def _usage(person: Person) -> dict[str, Any]:
    answer = await person.client.get(USAGE)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def _used(person: Person, resource: str) -> float:
    return float((await _usage(person))["user"][resource]["used"])


async def _override(database: Database, table: str, row_id: object, **values: int | None) -> None:
    changes = ", ".join(f"{column} = :{column}" for column in values)
    async with database.transaction() as session:
        await session.execute(
            text(f"UPDATE {table} SET {changes} WHERE id = :id"),  # noqa: S608
            {"id": row_id, **values},
        )


async def _organisation_of(database: Database, person: Person) -> UUID:
    return (await person.principal(database)).organisation_id


async def _create(client: httpx.AsyncClient, person: Person) -> httpx.Response:
    return await client.post(f"{JOBS}/", json=TEXT_JOB, headers={"x-api-key": person.key})


async def test_nothing_used_yet(people: People) -> None:
    """A new user has used nothing of quotas that are the settings'; only admins see all."""
    person, admin = await people.make(), await people.make(role=Role.ADMIN)
    usage = await _usage(person)
    assert usage["organisation"] is None
    found = {name: (quota["used"], quota["limit"]) for name, quota in usage["user"].items()}
    assert found == {
        "active_jobs": (0, 5),
        "queued_jobs": (0, 1000),
        "storage_bytes": (0, None),
        "gpu_seconds": (0, None),
    }
    resets_at = datetime.fromisoformat(usage["user"]["gpu_seconds"]["resets_at"])
    assert resets_at.day == 1
    assert timedelta(0) < resets_at - datetime.now(UTC) <= timedelta(days=31)
    assert (await _usage(admin))["organisation"]["queued_jobs"] == {
        "used": 0,
        "limit": None,
        "resets_at": None,
    }


async def test_queued_jobs_are_counted_through_their_life(
    people: People, stage: Stage, database: Database
) -> None:
    """A job counts while it is QUEUED, however it comes there and goes."""
    person = await people.make()
    first, _ = await person.job(), await person.job()
    assert await _used(person, "queued_jobs") == 2
    spec = await stage.start(first)
    assert await _used(person, "queued_jobs") == 1
    assert await _used(person, "active_jobs") == 2
    assert (await stage.worker.fail(spec)).status_code == 200  # to be tried again
    assert await _used(person, "queued_jobs") == 2
    await person.client.post(f"{JOBS}/{first['id']}/cancel")
    assert await _used(person, "queued_jobs") == 1
    await person.client.post(f"{JOBS}/{first['id']}/retry")
    assert await _used(person, "queued_jobs") == 2
    async with database.transaction() as session:
        await session.execute(text("DELETE FROM artifacts"))
        await session.execute(text("DELETE FROM jobs WHERE id = :id"), {"id": first["id"]})
    assert await _used(person, "queued_jobs") == 1


async def test_queue_of_a_user_is_bounded(settings: Settings, people: People) -> None:
    """One job more than may wait is refused with what to do; another user is not held up."""
    person, other = await people.make(), await people.make()
    async with another_app(settings, max_queued_jobs_per_user=3) as client:
        answers = [await _create(client, person) for _ in range(4)]
        validated = await client.post(
            f"{JOBS}/validate", json=TEXT_JOB, headers={"x-api-key": person.key}
        )
        by_other = await _create(client, other)
        assert [answer.status_code for answer in answers] == [201, 201, 201, 429]
        problem = assert_problem(answers[3], 429, "QUOTA_EXCEEDED")
        assert problem["detail"].startswith("You have used 3 of 3 queued jobs.")
        assert_problem(validated, 429, "QUOTA_EXCEEDED")
        assert by_other.status_code == 201
        await person.client.post(f"{JOBS}/{answers[0].json()['id']}/cancel")
        assert (await _create(client, person)).status_code == 201
        retried = await client.post(
            f"{JOBS}/{answers[0].json()['id']}/retry", headers={"x-api-key": person.key}
        )
        assert_problem(retried, 429, "QUOTA_EXCEEDED")


async def test_queue_is_bounded_however_many_ask_at_once(
    settings: Settings, people: People
) -> None:
    """Three processes that are asked for ninety jobs at once write exactly as many as fit."""
    person = await people.make()
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(another_app(settings, max_queued_jobs_per_user=10))
            for _ in range(3)
        ]
        answers = await asyncio.gather(
            *(_create(client, person) for client in clients for _ in range(30))
        )
    assert Counter(answer.status_code for answer in answers) == {201: 10, 429: 80}
    assert {answer.json()["code"] for answer in answers if answer.is_error} == {"QUOTA_EXCEEDED"}
    assert await _used(person, "queued_jobs") == 10


async def test_a_replay_needs_no_room(settings: Settings, people: People) -> None:
    """Repeating a create answers the job that is there, though there is no room for another."""
    person = await people.make()
    headers = {"x-api-key": person.key, "idempotency-key": "once"}
    async with another_app(settings, max_queued_jobs_per_user=1) as client:
        answers = [await client.post(f"{JOBS}/", json=TEXT_JOB, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json()["id"] == answers[1].json()["id"]


async def test_overrides(people: People, database: Database) -> None:
    """A user's own number goes before the settings', and so does an organisation's; 0 is none."""
    person = await people.make()
    await _override(database, "users", person.id, max_queued_jobs=1)
    organisation = await _organisation_of(database, person)
    assert (await person.submit(**TEXT_JOB)).status_code == 201
    assert_problem(await person.submit(**TEXT_JOB), 429, "QUOTA_EXCEEDED")
    await _override(database, "users", person.id, max_queued_jobs=0)
    assert (await _usage(person))["user"]["queued_jobs"]["limit"] is None
    assert (await person.submit(**TEXT_JOB)).status_code == 201
    await _override(database, "organisations", organisation, max_queued_jobs=2)
    colleague = await people.make()
    problem = assert_problem(await colleague.submit(**TEXT_JOB), 429, "QUOTA_EXCEEDED")
    assert problem["detail"].startswith("Your organisation has used 2 of 2 queued jobs.")
    admin = await people.make(role=Role.ADMIN)
    quota = (await _usage(admin))["organisation"]["queued_jobs"]
    assert (quota["used"], quota["limit"]) == (2, 2)


async def test_storage_is_counted(
    people: People, stage: Stage, database: Database, store: ObjectStore
) -> None:
    """Uploads and results count from their tickets on, until their objects are deleted."""
    person, data = await people.make(), png_bytes()
    promised = await person.upload(data, with_promises=True)
    assert await _used(person, "storage_bytes") == len(data)
    unknown = await person.upload(data)
    assert await _used(person, "storage_bytes") == len(data)
    await person.job(input_params={"image_path": promised})
    job = await person.job(input_params={"image_path": unknown})
    assert await _used(person, "storage_bytes") == 2 * len(data)
    await person.job(input_params={"image_path": unknown})  # the same object once more
    assert await _used(person, "storage_bytes") == 2 * len(data)

    await set_job(database, job["id"], priority=1)
    spec = await stage.start(job)
    assert (await stage.worker.succeed(spec)).status_code == 200
    assert await _used(person, "storage_bytes") == 2 * len(data) + len(GLB)

    async with database.transaction() as session:
        await session.execute(text("UPDATE upload_tickets SET keep_until = now() - interval '1s'"))
    assert await delete_unused_objects(database, store) == 3
    assert await _used(person, "storage_bytes") == 0


async def test_storage_is_bounded(settings: Settings, people: People, database: Database) -> None:
    """A file that would be too much gets no ticket, and one of unknown size no job."""
    person, data = await people.make(), png_bytes()
    await _override(database, "users", person.id, max_storage_bytes=2 * len(data))
    body = {"filename": "a.png", "content_type": "image/png", "size_bytes": 2 * len(data) + 1}
    async with nothing_written(database):
        refused = await person.client.post(f"{JOBS}/upload-ticket", json=body)
    problem = assert_problem(refused, 429, "QUOTA_EXCEEDED")
    assert f"0 of {2 * len(data)} storage bytes" in problem["detail"]
    unknown = await person.upload(data)
    await person.upload(data, with_promises=True)
    tickets = await asyncio.gather(
        *(
            person.client.post(f"{JOBS}/upload-ticket", json={**body, "size_bytes": len(data)})
            for _ in range(8)
        )
    )
    assert Counter(answer.status_code for answer in tickets) == {200: 1, 429: 7}
    answer = await person.submit(input_params={"image_path": unknown})
    assert_problem(answer, 429, "QUOTA_EXCEEDED")


async def test_results_are_kept_though_there_is_no_room(
    people: People, stage: Stage, database: Database, app: FastAPI
) -> None:
    """A run's files are never refused; who is above the limit then makes nothing new until room."""
    person, data = await people.make(), png_bytes()
    failed = await stage.failed(person)
    running, waiting = await person.job(), await person.job()
    limit = 3 * len(data)
    await _override(database, "users", person.id, max_storage_bytes=limit)
    await set_job(database, running["id"], priority=1)
    spec = await stage.start(running)
    assert (await stage.worker.succeed(spec)).status_code == 200
    used = await _used(person, "storage_bytes")
    assert used == limit + len(GLB)
    files = (await person.client.get(f"{JOBS}/{running['id']}/artifacts")).json()["items"]
    assert "model_3d" in {file["kind"] for file in files}

    app.state.usage_limits.forget_all()  # it may know for a second what was so before
    ticket = {"filename": "a.png", "content_type": "image/png"}
    async with nothing_written(database):
        answers = [
            await person.submit(**TEXT_JOB),
            await person.submit(input_params=running["input_params"]),
            await person.client.post(f"{JOBS}/validate", json=TEXT_JOB),
            await person.client.post(f"{JOBS}/{failed['id']}/retry"),
            await person.client.post(f"{JOBS}/{running['id']}/reproduce"),
            await person.client.post(f"{JOBS}/upload-ticket", json=ticket),
            await person.client.post(f"{JOBS}/upload-ticket", json={**ticket, "size_bytes": 1}),
        ]
    for answer in answers:
        problem = assert_problem(answer, 429, "QUOTA_EXCEEDED")
        assert f"You have used {used:.0f} of {limit} storage bytes" in problem["detail"]
        assert "and 0 more" not in problem["detail"]
        assert "deleted when the retention of their jobs is over" in problem["detail"]
    await stage.start(waiting)  # what was queued before is no new job


async def _ran_on_gpu(stage: Stage, person: Person, seconds: int) -> tuple[dict[str, Any], Any]:
    """A running job of the queue `gpu` that began so long ago."""
    job = await person.job(**TEXT_JOB)
    await stage.worker.report(queue="gpu", pipelines=("dreamfusion",))
    attempt_id = await dispatch(stage.database, stage.dispatcher, job["id"])
    spec = await stage.worker.start(attempt_id)
    async with stage.database.transaction() as session:
        await session.execute(
            text(
                "UPDATE attempts SET started_at = now() - make_interval(secs => :s) WHERE id = :i"
            ),
            {"s": seconds, "i": attempt_id},
        )
    return job, spec


async def test_gpu_seconds(people: People, stage: Stage, database: Database) -> None:
    """Each attempt that ended on a GPU is recorded: of a success, a failure and a cancellation."""
    person = await people.make()
    _, spec = await _ran_on_gpu(stage, person, 100)
    assert (await stage.worker.succeed(spec)).status_code == 200
    assert await _used(person, "gpu_seconds") == pytest.approx(100, abs=30)
    job, spec = await _ran_on_gpu(stage, person, 1000)
    assert (await stage.worker.fail(spec, permanent=True)).status_code == 200
    assert await _used(person, "gpu_seconds") == pytest.approx(1100, abs=60)
    job, spec = await _ran_on_gpu(stage, person, 10_000)
    await person.client.post(f"{JOBS}/{job['id']}/cancel")
    await stage.worker.call(spec, "finish", {"outcome": "cancelled"})
    assert (await person.get(job["id"]))["status"] == "CANCELLED"
    assert await _used(person, "gpu_seconds") == pytest.approx(11_100, abs=90)
    async with database.transaction() as session:
        recorded = (
            await session.execute(text("SELECT sum(gpu_seconds) FROM attempts"))
        ).scalar_one()
    assert await _used(person, "gpu_seconds") == pytest.approx(recorded)


async def test_what_is_not_charged(people: People, stage: Stage, database: Database) -> None:
    """A run without a GPU is not charged, nor is one whose worker was lost."""
    person = await people.make()
    await stage.succeeded(person)
    job, _ = await _ran_on_gpu(stage, person, 100)
    await end_lease(database, await current_attempt_id(database, job["id"]))
    await stage.dispatcher.run_once()
    assert await _used(person, "gpu_seconds") == 0


async def test_gpu_seconds_are_bounded(
    people: People, stage: Stage, database: Database, app: FastAPI
) -> None:
    """Who has used up the month's is told when the next begins."""
    person = await people.make()
    await _override(database, "users", person.id, max_gpu_seconds=100)
    _, spec = await _ran_on_gpu(stage, person, 100)
    await stage.worker.succeed(spec)
    app.state.usage_limits.forget_all()  # it may know for a second what was so before
    refused = await person.submit(**TEXT_JOB)
    problem = assert_problem(refused, 429, "QUOTA_EXCEEDED")
    resets_at = (await _usage(person))["user"]["gpu_seconds"]["resets_at"]
    assert resets_at in problem["detail"]
    assert 0 < int(refused.headers["retry-after"]) <= 31 * 86400


async def test_organisations_are_apart(people: People, database: Database) -> None:
    """What one organisation uses is nothing of another's."""
    ada = await people.make(role=Role.ADMIN)
    eve = await people.make(role=Role.ADMIN, organisation="Globex")
    await ada.job()
    assert (await _usage(ada))["organisation"]["queued_jobs"]["used"] == 1
    assert (await _usage(eve))["organisation"]["queued_jobs"]["used"] == 0
