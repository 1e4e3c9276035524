"""New jobs, written while something else happens to what they depend on."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import text

from app.accounts.principal import Principal
from app.artifacts.tables import UploadTicket
from app.artifacts.uploads import check_upload
from app.catalog.known import KnownModels
from app.catalog.parameters import UploadParameter
from app.config import Settings
from app.db import pool
from app.db.session import Database
from app.initial_data import seed
from app.jobs import submission
from app.jobs.admission import admit_jobs
from app.jobs.creation import _CONNECTIONS, Draft, JobWriter
from app.queueing.dispatcher import Dispatcher
from app.storage.base import ObjectStore
from tests.support.locks import until_blocked_or_done
from tests.support.people import JOBS, People, Person
from tests.support.problems import assert_problem
from tests.support.rows import count_rows, nothing_written
from tests.support.worker import FakeWorker

MODEL = "dreamfusion-sd"
BODY: dict[str, Any] = {"model_id": MODEL, "prompt": "a teapot", "input_params": {}}


@pytest.fixture
async def ada(people: People) -> Person:
    return await people.make()


@pytest.fixture
async def principal(ada: Person, database: Database) -> Principal:
    return await ada.principal(database)


@pytest.fixture
async def catalog(database: Database, settings: Settings) -> AsyncIterator[Database]:
    """A database whose catalog may be changed: it is put right again afterwards."""
    yield database
    async with database.transaction() as session:
        await session.execute(text("UPDATE models SET enabled = true"))
        await seed(session, settings)


async def execute(database: Database, statement: str, **values: Any) -> None:
    """One statement in a transaction of its own."""
    async with database.transaction() as session:
        await session.execute(text(statement), values)


@pytest.fixture
async def waiting_place(
    ada: Person, worker: FakeWorker, database: Database, dispatcher: Dispatcher
) -> None:
    """A place in the round robin that is due, with nothing waiting there."""
    await worker.report(queue="gpu", pipelines=("dreamfusion",))
    job = await ada.job(**BODY)
    await ada.client.post(f"{JOBS}/{job['id']}/cancel")
    await execute(database, "UPDATE user_queue SET ready_at = now()")


async def stranded(database: Database) -> int:
    """Waiting jobs that no pass of the dispatcher will ever look at."""
    async with database.transaction() as session:
        found = await session.execute(
            text(
                "SELECT count(*) FROM jobs j LEFT JOIN user_queue u "
                "USING (user_id, queue, model_id) "
                "WHERE j.status = 'QUEUED' AND j.slot IS NULL AND u.ready_at IS NULL"
            )
        )
        return int(found.scalar_one())


async def test_created_while_a_dispatcher_finds_nothing(
    ada: Person,
    waiting_place: None,
    database: Database,
    dispatcher: Dispatcher,
    settings: Settings,
) -> None:
    """A dispatcher that has just sent a user away is overruled by a job that comes meanwhile."""
    async with database.transaction() as session:
        assert await admit_jobs(session, settings) == []
        creating = asyncio.create_task(ada.submit(**BODY))
        await until_blocked_or_done(database, creating)
    assert (await creating).status_code == 201

    assert await stranded(database) == 0
    assert await dispatcher.run_once() == 1


async def test_dispatched_while_a_job_is_written(
    ada: Person,
    waiting_place: None,
    database: Database,
    dispatcher: Dispatcher,
) -> None:
    """A pass between a job's writing and its commit does not send its user away."""
    async with database.transaction() as session:
        await session.execute(text("SELECT 1 FROM users FOR UPDATE"))
        creating = asyncio.create_task(ada.submit(**BODY))
        # It has written everything, and waits to know that its user is still there.
        await until_blocked_or_done(database, creating)
        assert await dispatcher.run_once() == 0
    assert (await creating).status_code == 201

    assert await stranded(database) == 0
    assert await dispatcher.run_once() == 1


async def test_many_processes_and_dispatchers(
    ada: Person,
    principal: Principal,
    worker: FakeWorker,
    database: Database,
    dispatcher: Dispatcher,
    settings: Settings,
) -> None:
    """However creating, cancelling and dispatching meet, no job is left where nobody looks."""
    await worker.report(queue="gpu", pipelines=("dreamfusion",))
    known = await KnownModels(database).read(MODEL)
    writers = [
        JobWriter(settings.database_dsn, database.signals, settings.worker_live_seconds, 0)
        for _ in range(3)
    ]

    async def create(writer: JobWriter) -> None:
        for _ in range(25):
            await asyncio.gather(
                *(writer.write(principal, Draft(known, {}, None, "r", "t")) for _ in range(2))
            )
            await execute(
                database,
                "UPDATE jobs SET status = 'CANCELLED', slot = NULL, completed_at = now() "
                "WHERE status = 'QUEUED' AND slot IS NULL",
            )

    async def pass_on() -> None:
        while True:
            await dispatcher.run_once()

    dispatching = asyncio.create_task(pass_on())
    try:
        for writer in writers:
            await writer.start()
        await asyncio.gather(*(create(writer) for writer in writers))
        await asyncio.gather(
            *(writer.write(principal, Draft(known, {}, None, "r", "t")) for writer in writers)
        )
    finally:
        dispatching.cancel()
        await asyncio.gather(dispatching, return_exceptions=True)
        for writer in writers:
            await writer.close()
    assert (await count_rows(database))["jobs"] == 153
    assert await stranded(database) == 0


@pytest.mark.parametrize("odd", ["\x00", "\ud800"], ids=["for the database", "for the driver"])
async def test_one_that_cannot_be_written_fails_alone(
    principal: Principal, database: Database, app: FastAPI, odd: str
) -> None:
    """Of jobs that are written together, one that is refused takes no other with it."""
    known = await KnownModels(database).read(MODEL)
    writer: JobWriter = app.state.job_writer
    drafts = [Draft(known, {}, prompt, "request", "trace") for prompt in ("a", "b", odd, "c", "d")]
    rows = await asyncio.gather(
        *(writer.write(principal, draft) for draft in drafts), return_exceptions=True
    )
    assert [isinstance(row, Exception) for row in rows] == [False, False, True, False, False]
    assert (await count_rows(database))["jobs"] == 4


async def test_none_of_many_at_once_is_forgotten(
    principal: Principal, database: Database, app: FastAPI
) -> None:
    """Each is answered, whenever it comes while statements with others begin and end."""
    known = await KnownModels(database).read(MODEL)
    writer: JobWriter = app.state.job_writer

    async def ask(times: int) -> None:
        for _ in range(times):
            await writer.write(principal, Draft(known, {}, "a teapot", "request", "trace"))

    async with asyncio.timeout(120):
        await asyncio.gather(*(ask(100) for _ in range(17)))
    assert not writer._queues


async def test_nobody_waits_for_ever_for_a_connection(
    people: People, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With every connection taken, one more request is answered before any of them is free."""
    ada, *crowd = [await people.make() for _ in range(_CONNECTIONS + 1)]
    async with database.transaction() as session:
        await session.execute(text("SELECT 1 FROM users FOR UPDATE"))
        creating = [asyncio.create_task(person.submit(**BODY)) for person in crowd]
        await until_blocked_or_done(database, creating[0], connections=len(crowd))
        monkeypatch.setattr(pool, "CONNECT_SECONDS", 0.2)
        assert_problem(await ada.submit(**BODY), 503, "SERVICE_UNAVAILABLE")
        assert not any(task.done() for task in creating)
    answers = await asyncio.gather(*creating)
    assert {answer.status_code for answer in answers} == {201}


async def test_key_that_another_process_is_using(
    ada: Person, principal: Principal, database: Database
) -> None:
    """While another process handles a request with the same key, the answer is to wait."""
    headers = {"Idempotency-Key": "key-1"}
    async with database.transaction() as session, nothing_written(database):
        await session.execute(
            text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"),
            {"name": f"idempotency:{principal.user_id}:key-1"},
        )
        answer = await ada.submit(**BODY, headers=headers)
        assert_problem(answer, 409, "IDEMPOTENCY_IN_FLIGHT")
    assert (await ada.submit(**BODY, headers=headers)).status_code == 201


async def test_upload_that_retention_takes_meanwhile(ada: Person, database: Database) -> None:
    """An upload that is there when it is checked, and not when the job is written, is refused."""
    image = await ada.upload()
    async with database.transaction() as session:
        await session.execute(text("UPDATE upload_tickets SET keep_until = now()"))
        creating = asyncio.create_task(ada.submit(input_params={"image_path": image}))
        await until_blocked_or_done(database, creating)
    assert_problem(await creating, 410, "UPLOAD_EXPIRED", pointer="/input_params/image_path")
    assert (await count_rows(database))["jobs"] == 0


async def test_wrong_request_is_checked_once(ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that does not fit the model as it is known is not checked again for the same."""
    await ada.job()
    checked: list[str] = []

    async def counted(store: ObjectStore, ticket: UploadTicket, parameter: UploadParameter) -> Any:
        checked.append(ticket.object_key)
        return await check_upload(store, ticket, parameter)

    monkeypatch.setattr(submission, "check_upload", counted)
    image = await ada.upload(b"no picture")
    assert_problem(
        await ada.submit(input_params={"image_path": image}), 422, "UPLOAD_TYPE_NOT_ACCEPTED"
    )
    assert checked == [image]


async def test_disabled_model_is_refused_at_once(ada: Person, catalog: Database) -> None:
    """A model that is disabled, by hand or by a seed, makes no job any more; nor the reverse."""
    await ada.job(**BODY)
    await execute(catalog, "UPDATE models SET enabled = false WHERE id = :id", id=MODEL)
    assert_problem(await ada.submit(**BODY), 404, "MODEL_NOT_FOUND")
    await execute(catalog, "UPDATE models SET enabled = true WHERE id = :id", id=MODEL)
    await ada.job(**BODY)


async def test_changed_model_counts_at_once(ada: Person, catalog: Database) -> None:
    """A job is checked against the model, and goes to the queue, as they are when it is written."""
    await ada.job(**BODY)
    await execute(
        catalog,
        "UPDATE models SET prompt_policy = 'none', queue = 'other' WHERE id = :id",
        id=MODEL,
    )
    assert_problem(await ada.submit(**BODY), 422, "INVALID_PROMPT", pointer="/prompt")
    job = await ada.job(model_id=MODEL, input_params={})
    async with catalog.transaction() as session:
        queue = await session.execute(
            text("SELECT queue FROM jobs WHERE id = :id"), {"id": job["id"]}
        )
        assert queue.scalar_one() == "other"
