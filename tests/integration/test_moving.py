"""Jobs whose model moves to another queue while they wait, run or are being written."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import func, select, text

from app.config import Settings
from app.db.session import Database
from app.initial_data import seed
from app.jobs.moving import find_left_behind, follow
from app.jobs.tables import Attempt, UserQueue
from app.queueing.dispatcher import Dispatcher
from app.queueing.mover import move_left_behind
from tests.support.jobs import attempts_of, dispatch, make_due
from tests.support.locks import until_blocked_or_done
from tests.support.people import JOBS, People, Person
from tests.support.worker import FakeWorker

MODEL = "inflate-v1"
MOVE = text("UPDATE models SET queue = :queue WHERE id = :id")


@pytest.fixture
async def ada(people: People) -> Person:
    return await people.make()


@pytest.fixture
async def catalog(database: Database, settings: Settings) -> AsyncIterator[Database]:
    """A database whose catalog may be changed: it is put right again afterwards."""
    yield database
    async with database.transaction() as session:
        await seed(session, settings)


async def move_model(catalog: Database, queue: str) -> None:
    """What a seed does with a changed queue."""
    async with catalog.transaction() as session:
        await session.execute(MOVE, {"queue": queue, "id": MODEL})


async def ready_places(database: Database) -> list[str]:
    """The queues in which somebody may have something to dispatch."""
    async with database.transaction() as session:
        ready = select(UserQueue.queue).where(UserQueue.ready_at.is_not(None))
        return sorted((await session.execute(ready)).scalars())


async def queues_of(database: Database, job_id: object) -> list[str]:
    """Where each of a job's attempts was sent."""
    return [attempt.queue for attempt in await attempts_of(database, job_id)]


async def test_waiting_jobs_follow(
    ada: Person, worker: FakeWorker, catalog: Database, dispatcher: Dispatcher
) -> None:
    """What waits is dispatched where its model is; what only used to wait leaves nothing behind."""
    job = await ada.job()
    cancelled = await ada.job()
    await ada.client.post(f"{JOBS}/{cancelled['id']}/cancel")
    await move_model(catalog, "gpu")
    await worker.report(queue="gpu")
    assert await dispatcher.run_once() == 0

    assert await move_left_behind(catalog) == 1
    assert await ready_places(catalog) == ["gpu"]
    assert await dispatcher.run_once() == 1
    assert await queues_of(catalog, job["id"]) == ["gpu"]
    assert await move_left_behind(catalog) == 0


async def test_job_that_runs_while_its_model_moves(
    ada: Person, worker: FakeWorker, catalog: Database, dispatcher: Dispatcher
) -> None:
    """After its failure it waits where its model is now, and not before it is due."""
    await worker.report()
    job = await ada.job()
    spec = await worker.start(await dispatch(catalog, dispatcher, job["id"]))
    await move_model(catalog, "gpu")
    assert await move_left_behind(catalog) == 0
    await worker.fail(spec)
    await worker.report(queue="gpu")

    assert await move_left_behind(catalog) == 1
    assert await dispatcher.run_once() == 0
    await make_due(catalog, job["id"])
    assert await dispatcher.run_once() == 1
    assert await queues_of(catalog, job["id"]) == ["cpu", "gpu"]


async def test_attempt_that_is_withdrawn_after_its_model_has_moved(
    ada: Person,
    worker: FakeWorker,
    catalog: Database,
    dispatcher: Dispatcher,
    settings: Settings,
) -> None:
    """The old queue's last worker goes with a dispatched job: it is dispatched to the new queue."""
    await worker.report()
    job = await ada.job()
    await dispatch(catalog, dispatcher, job["id"])
    await move_model(catalog, "gpu")
    await worker.report(queue="gpu")
    long_ago = func.now() - text(f"interval '{2 * settings.worker_live_seconds} seconds'")
    async with catalog.transaction() as session:
        attempt = (await session.execute(select(Attempt))).scalar_one()
        attempt.dispatched_at = long_ago
    assert await dispatcher.withdraw_stranded() == 1

    assert await move_left_behind(catalog) == 1
    assert await dispatcher.run_once() == 1
    assert await queues_of(catalog, job["id"]) == ["cpu", "gpu"]


async def test_job_that_is_created_while_its_model_moves(
    ada: Person, worker: FakeWorker, catalog: Database, dispatcher: Dispatcher
) -> None:
    """A job that was written before the new queue was to be seen follows all the same."""
    async with catalog.transaction() as session:
        await session.execute(MOVE, {"queue": "gpu", "id": MODEL})
        assert await move_left_behind(catalog) == 0
        job = await ada.job()
    await worker.report(queue="gpu")

    assert await move_left_behind(catalog) == 1
    assert await dispatcher.run_once() == 1
    assert await queues_of(catalog, job["id"]) == ["gpu"]


async def test_model_that_moves_back_at_once(
    ada: Person, worker: FakeWorker, catalog: Database, dispatcher: Dispatcher
) -> None:
    """A job that comes to the old queue just while its place there is closed opens it again."""
    moved = await ada.job()
    image = await ada.upload()
    await move_model(catalog, "gpu")
    async with catalog.transaction() as session:
        (left,) = await find_left_behind(session)
        assert await follow(session, left) == 1
        await move_model(catalog, "cpu")
        creating = asyncio.create_task(ada.submit(input_params={"image_path": image}))
        await until_blocked_or_done(catalog, creating)
    stayed = (await creating).json()
    await worker.report()

    assert await move_left_behind(catalog) == 1
    assert await ready_places(catalog) == ["cpu"]
    assert await dispatcher.run_once() == 2
    assert [await queues_of(catalog, job["id"]) for job in (moved, stayed)] == [["cpu"], ["cpu"]]


async def test_job_that_somebody_holds_is_left_for_the_next_time(
    ada: Person, catalog: Database
) -> None:
    """A locked job holds up nothing, and keeps its place until it can be moved."""
    job = await ada.job()
    await ada.job()
    await move_model(catalog, "gpu")
    async with catalog.transaction() as session:
        await session.execute(text("SELECT 1 FROM jobs WHERE id = :id FOR UPDATE"), job)
        assert await move_left_behind(catalog) == 1
        assert await ready_places(catalog) == ["cpu", "gpu"]
    assert await move_left_behind(catalog) == 1
    assert await ready_places(catalog) == ["gpu"]
