"""Retention: rows expire first, objects follow, and nothing in use is ever deleted."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text

from app.db.session import Database
from app.jobs.creation import Draft, JobWriter
from app.jobs.schemas import JobIn
from app.jobs.submission import Submission
from app.queueing.dispatcher import Dispatcher
from app.queueing.orphans import delete_orphans, find_orphans
from app.queueing.retention import delete_unused_objects, expire_jobs, preview
from app.storage.base import ObjectStore
from tests.support.jobs import dispatch
from tests.support.people import People, Person
from tests.support.rows import nothing_written
from tests.support.runs import Stage
from tests.support.worker import FakeWorker

AGE_TICKETS = text(
    "UPDATE upload_tickets SET keep_until = now() - interval '1 s' WHERE keep_until IS NOT NULL"
)


@pytest.fixture
async def ada(people: People) -> Person:
    return await people.make()


@pytest.fixture
async def done(
    ada: Person, worker: FakeWorker, dispatcher: Dispatcher, database: Database
) -> dict[str, Any]:
    """A job that has succeeded."""
    job = await ada.job()
    await worker.report()
    await worker.succeed(await worker.start(await dispatch(database, dispatcher, job["id"])))
    return job


async def let_everything_age(database: Database) -> None:
    """Let every retention and every ticket be over."""
    async with database.transaction() as session:
        await session.execute(text("UPDATE jobs SET expires_at = now() - interval '1 s'"))
        await session.execute(AGE_TICKETS)


async def keys_in_storage(database: Database, store: ObjectStore) -> list[str]:
    """Keys of tickets whose objects are there."""
    async with database.transaction() as session:
        keys = (await session.execute(text("SELECT object_key FROM upload_tickets"))).scalars()
    return [key for key in keys if await store.read_start(key, 1)]


async def test_expired_job_loses_its_files(
    ada: Person, done: dict[str, Any], database: Database, store: ObjectStore
) -> None:
    """An expired job is EXPIRED at once, answers 410, and then its objects go."""
    url = (await ada.client.get(f"/api/v1/jobs/{done['id']}/download")).json()["download_url"]
    await let_everything_age(database)

    assert await expire_jobs(database) == 1
    assert (await ada.get(done["id"]))["status"] == "EXPIRED"
    refused = await ada.client.get(f"/api/v1/jobs/{done['id']}/download")
    assert (refused.status_code, refused.json()["code"]) == (410, "JOB_EXPIRED")

    assert await delete_unused_objects(database, store) == 2
    assert await delete_unused_objects(database, store) == 0
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(url)).status_code == 404


async def test_files_of_kept_jobs_stay(
    ada: Person, done: dict[str, Any], database: Database, store: ObjectStore
) -> None:
    """Old tickets do not matter as long as a job that is not expired refers to their objects."""
    async with database.transaction() as session:
        await session.execute(AGE_TICKETS)

    assert await expire_jobs(database) == 0
    assert await delete_unused_objects(database, store) == 0
    assert len(await keys_in_storage(database, store)) == 2
    assert (await ada.client.get(f"/api/v1/jobs/{done['id']}/download")).status_code == 200


async def test_upload_shared_by_two_jobs_goes_with_the_last(
    ada: Person, database: Database, store: ObjectStore
) -> None:
    """A picture that two jobs use is deleted when both have expired, not before."""
    image = await ada.upload()
    first = await ada.job(input_params={"image_path": image})
    second = await ada.job(input_params={"image_path": image})
    for job in (first, second):
        await ada.client.post(f"/api/v1/jobs/{job['id']}/cancel")
    await let_everything_age(database)
    async with database.transaction() as session:
        await session.execute(
            text("UPDATE jobs SET expires_at = now() + interval '1 day' WHERE id = :id"),
            {"id": UUID(second["id"])},
        )

    assert await expire_jobs(database) == 1
    assert await delete_unused_objects(database, store) == 0

    await let_everything_age(database)
    assert await expire_jobs(database) == 1
    assert await delete_unused_objects(database, store) == 1


async def test_unused_uploads_are_deleted(
    ada: Person, database: Database, store: ObjectStore
) -> None:
    """What was uploaded and never used goes when nobody may use it any more."""
    await ada.upload()
    assert await delete_unused_objects(database, store) == 0
    await let_everything_age(database)

    assert await delete_unused_objects(database, store) == 1
    async with database.transaction() as session:
        assert not (await session.execute(text("SELECT * FROM upload_tickets"))).all()


async def test_running_jobs_never_expire(
    ada: Person, worker: FakeWorker, dispatcher: Dispatcher, database: Database
) -> None:
    """Only what has ended has an expiry at all."""
    job = await ada.job()
    await worker.report()
    await worker.start(await dispatch(database, dispatcher, job["id"]))
    await let_everything_age(database)

    assert await expire_jobs(database) == 0
    assert (await ada.get(job["id"]))["status"] == "RUNNING"


async def test_upload_that_expires_while_a_job_is_made_is_refused(
    ada: Person, database: Database, store: ObjectStore, app: FastAPI
) -> None:
    """Retention that is quicker than the creation of a job leaves no job without its input."""
    image = await ada.upload()
    principal = await ada.principal(database)
    request = JobIn(model_id="inflate-v1", input_params={"image_path": image})
    submission: Submission = app.state.submission
    writer: JobWriter = app.state.job_writer
    checked = await submission.check(principal, request)
    await let_everything_age(database)
    assert await delete_unused_objects(database, store) == 1

    draft = Draft(
        checked.known, checked.input_params, None, "request", "trace", uploads=checked.uploads
    )
    async with nothing_written(database):
        row = await writer.write(principal, draft)
    assert (row["id"], row["kept"]) == (None, [])


async def test_organisation_has_a_retention_of_its_own(
    people: People, stage: Stage, database: Database
) -> None:
    """Its days count for all its jobs, however they end; without them the model's do."""
    ada, bob = await people.make(), await people.make(organisation="Elsewhere")
    async with database.transaction() as session:
        await session.execute(
            text(
                "UPDATE organisations SET retention_days = 30 FROM users"
                " WHERE users.organisation_id = organisations.id AND users.id = :id"
            ),
            {"id": ada.id},
        )
    ended = [
        await stage.succeeded(ada),
        await stage.failed(ada),
        await stage.succeeded(bob),
    ]

    kept = [
        datetime.fromisoformat(job["expires_at"]) - datetime.fromisoformat(job["completed_at"])
        for job in ended
    ]
    assert [days.days for days in kept] == [30, 30, 7]


async def test_preview_says_what_retention_does(
    ada: Person, done: dict[str, Any], database: Database, store: ObjectStore
) -> None:
    """It counts just the jobs and objects that go then, and changes nothing."""
    shared = await ada.upload()
    await ada.job(input_params={"image_path": shared})
    ended = await ada.job(input_params={"image_path": shared})
    await ada.client.post(f"/api/v1/jobs/{ended['id']}/cancel")
    await ada.upload()
    assert (await preview(database)).jobs == 0
    await let_everything_age(database)

    async with nothing_written(database):
        due = await preview(database)
    assert due.bytes > 0

    assert await expire_jobs(database) == due.jobs == 2
    assert await delete_unused_objects(database, store) == due.objects == 3


async def test_orphans_are_objects_that_no_row_knows(
    ada: Person, done: dict[str, Any], database: Database, store: ObjectStore
) -> None:
    """Only old ones under our own prefixes are found and deleted, and nothing else."""
    known = await keys_in_storage(database, store)
    strangers = ["jobs/a/b/left.glb", "uploads/a/b/left.png"]
    for key in [*strangers, "somebody-else/left.png"]:
        await store.write(key, b"left", "application/octet-stream")

    assert [page async for page in find_orphans(database, store)] == []
    found = [page async for page in find_orphans(database, store, settled=timedelta(0))]
    assert {item.key for page in found for item in page} >= set(strangers)
    assert {item.size_bytes for page in found for item in page if item.key in strangers} == {4}

    deleted, remaining = await delete_orphans(database, store, settled=timedelta(0))
    assert (deleted, remaining) == (sum(map(len, found)), 0)
    assert [page async for page in find_orphans(database, store, settled=timedelta(0))] == []
    assert await keys_in_storage(database, store) == known
    assert await store.read_start("somebody-else/left.png", 4)
