"""Dispatching: limits, fairness and capacity."""

import asyncio

import pytest
from sqlalchemy import text, update

from app.config import Settings
from app.db.session import Database
from app.jobs.admission import admit_jobs
from app.jobs.tables import Job
from app.queueing.dispatcher import Dispatcher
from app.queueing.rq_queue import RqQueues
from tests.support.crowds import many_jobs, many_workers
from tests.support.jobs import active_jobs, current_attempt_id, dispatch, dispatched_order, set_job
from tests.support.people import People
from tests.support.worker import FakeWorker


async def test_many_dispatchers_keep_the_limit(
    people: People, worker: FakeWorker, database: Database, queues: RqQueues, settings: Settings
) -> None:
    """Eight dispatchers at once never give one user more than five active jobs."""
    ada = await people.make()
    await many_jobs(ada, 12)
    await many_workers(worker, 20)
    dispatchers = [Dispatcher(database, queues, settings) for _ in range(8)]

    admitted = await asyncio.gather(*(d.run_once() for _ in range(3) for d in dispatchers))

    assert sum(admitted) == 5
    assert await active_jobs(database) == {ada.id: 5}


async def test_limit_of_an_organisation(
    people: People, worker: FakeWorker, database: Database, queues: RqQueues, settings: Settings
) -> None:
    """Colleagues share their organisation's limit, whoever admits; others are not held up."""
    limited = settings.model_copy(update={"max_active_jobs_per_organisation": 3})
    colleagues = [await people.make() for _ in range(4)]
    other = await people.make(organisation="Globex")
    for person in (*colleagues, other):
        await many_jobs(person, 2)
    await many_workers(worker, 20)
    dispatchers = [Dispatcher(database, queues, limited) for _ in range(4)]

    await asyncio.gather(*(d.run_once() for _ in range(3) for d in dispatchers))

    active = await active_jobs(database)
    assert active[other.id] == 2
    assert sum(active[person.id] for person in colleagues) == 3

    async with database.transaction() as session:
        await session.execute(
            text("UPDATE organisations SET max_active_jobs = 5 WHERE name = 'Acme'")
        )
        await session.execute(text("UPDATE user_queue SET ready_at = now()"))
    await asyncio.gather(*(d.run_once() for _ in range(3) for d in dispatchers))
    active = await active_jobs(database)
    assert sum(active[person.id] for person in colleagues) == 5


async def test_second_dispatcher_does_not_wait(
    people: People, worker: FakeWorker, database: Database, settings: Settings
) -> None:
    """While one dispatcher's transaction is open, another admits nothing and returns at once."""
    ada = await people.make()
    await many_jobs(ada, 3)
    await many_workers(worker, 5)

    async with database.transaction() as one, database.transaction() as other:
        assert await admit_jobs(one, settings)
        assert await admit_jobs(other, settings) == []


async def test_capacity_is_shared_by_dispatchers(
    people: People, worker: FakeWorker, database: Database, settings: Settings
) -> None:
    """What one dispatcher admits counts for the next one, even before it is committed."""
    ada, eve, bob = [await people.make() for _ in range(3)]
    await many_jobs(ada, 1)
    await many_jobs(eve, 1)
    await many_workers(worker, 1)

    async with database.transaction() as one:
        assert len(await admit_jobs(one, settings)) == 2
        await many_jobs(bob, 1)
        async with database.transaction() as other:
            assert await admit_jobs(other, settings) == []
    async with database.transaction() as other:
        assert await admit_jobs(other, settings) == []


async def test_whoever_waited_longest_is_next(
    people: People, worker: FakeWorker, database: Database, dispatcher: Dispatcher
) -> None:
    """With room for few, turns go round: who was served last comes last."""
    noisy, second, third = [await people.make() for _ in range(3)]
    loud = await many_jobs(noisy, 3)
    (soft,), (late,) = await many_jobs(second, 1), await many_jobs(third, 1)
    await many_workers(worker, 1)

    await dispatcher.run_once()
    assert await dispatched_order(database) == [loud[0], soft]
    for job_id in (loud[0], soft):
        spec = await worker.start(await current_attempt_id(database, job_id))
        await worker.fail(spec, permanent=True)
    await dispatcher.run_once()

    assert (await dispatched_order(database))[2:] == [late, loud[1]]


async def test_a_users_own_limit_wins(
    people: People, worker: FakeWorker, database: Database, dispatcher: Dispatcher
) -> None:
    """A user with a limit of their own is held to it."""
    ada = await people.make(max_active_jobs=2)
    await many_jobs(ada, 4)
    await many_workers(worker, 10)

    await dispatcher.run_once()

    assert await active_jobs(database) == {ada.id: 2}


async def test_round_robin_across_users(
    people: People, worker: FakeWorker, database: Database, dispatcher: Dispatcher
) -> None:
    """A user with many jobs does not hold up one with few."""
    noisy, quiet = await people.make(), await people.make()
    loud = await many_jobs(noisy, 5)
    soft = await many_jobs(quiet, 2)
    await many_workers(worker, 10)

    await dispatcher.run_once()

    assert await dispatched_order(database) == [loud[0], soft[0], loud[1], soft[1], *loud[2:]]


async def test_priority_then_age_within_a_user(
    people: People, worker: FakeWorker, database: Database, dispatcher: Dispatcher
) -> None:
    """Of one user's jobs the one with the highest priority goes first, then the oldest."""
    ada = await people.make()
    first, second, urgent = await many_jobs(ada, 3)
    await set_job(database, urgent, priority=5)
    await many_workers(worker, 10)

    await dispatcher.run_once()

    assert await dispatched_order(database) == [urgent, first, second]


async def test_never_more_than_twice_what_workers_can_take(
    people: People, worker: FakeWorker, database: Database, dispatcher: Dispatcher
) -> None:
    """With one live worker only two attempts leave the database, whoever waits."""
    for person in [await people.make() for _ in range(3)]:
        await many_jobs(person, 2)
    await many_workers(worker, 1)

    assert await dispatcher.run_once() == 2
    assert await dispatcher.run_once() == 0


@pytest.mark.parametrize(
    "fleet", [{}, {"queue": "gpu"}, {"pipelines": ("sf3d",)}, {"stopping": True}]
)
async def test_nothing_is_dispatched_without_a_worker_for_it(
    people: People,
    worker: FakeWorker,
    database: Database,
    dispatcher: Dispatcher,
    fleet: dict[str, object],
) -> None:
    """No worker, one of another queue, of another pipeline or a stopping one is no capacity."""
    ada = await people.make()
    job = await ada.job()
    if fleet:
        await worker.report(**fleet)

    assert await dispatcher.run_once() == 0
    assert (await ada.get(job["id"]))["status"] == "QUEUED"

    await worker.report(name="the-right-one")
    async with database.transaction() as session:
        # What could not be served is looked at again after some seconds: let them be over.
        await session.execute(text("UPDATE user_queue SET ready_at = now()"))
    assert await dispatcher.run_once() == 1


async def test_a_free_slot_wakes_the_user(
    people: People, worker: FakeWorker, database: Database, dispatcher: Dispatcher
) -> None:
    """When a job ends, the next one of a user at the limit is due at once."""
    ada = await people.make(max_active_jobs=1)
    first, second = await many_jobs(ada, 2)
    await many_workers(worker, 5)
    spec = await worker.start(await dispatch(database, dispatcher, first))
    assert await dispatcher.run_once() == 0

    await worker.fail(spec, permanent=True)

    assert await dispatcher.run_once() == 1
    assert (await dispatched_order(database))[-1] == second


async def test_slot_is_unique_whatever_the_code_does(people: People, database: Database) -> None:
    """The limit is in the schema: two active jobs of a user cannot share a slot."""
    ada = await people.make()
    first, second = await many_jobs(ada, 2)
    await set_job(database, first, slot=1)

    with pytest.raises(Exception, match="uq_jobs_user_id_slot"):
        async with database.transaction() as session:
            await session.execute(update(Job).where(Job.id == second).values(slot=1))


async def test_queue_position_counts_the_round_robin(people: People, worker: FakeWorker) -> None:
    """A quiet user's first job is near the front, however much a noisy one has queued."""
    noisy, quiet = await people.make(), await people.make()
    loud = await many_jobs(noisy, 4)
    soft = await many_jobs(quiet, 1)
    await worker.report()

    assert (await quiet.get(soft[0]))["queue_position"] == 2
    assert (await noisy.get(loud[3]))["queue_position"] == 5


async def test_jobs_that_nobody_serves_stand_in_nobodys_way(
    people: People, worker: FakeWorker, database: Database, dispatcher: Dispatcher
) -> None:
    """Many users with jobs of an unserved model on the same queue do not hold up a served one."""
    for _ in range(20):
        person = await people.make()
        await person.job(model_id="dreamfusion-sd", prompt="a teapot", input_params={})
    ada = await people.make()
    job = await ada.job(model_id="sf3d-v1", input_params={"image_path": await ada.upload()})
    await worker.report(queue="gpu", pipelines=("sf3d",))

    assert await dispatcher.run_once() == 1
    assert await dispatched_order(database) == [job["id"]]
