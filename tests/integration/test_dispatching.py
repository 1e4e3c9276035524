"""Dispatching: limits, fairness, capacity, and pushing again what got lost."""

import asyncio
import json
import zlib
from collections import Counter

import pytest
from redis import Redis
from sqlalchemy import text, update

from app.config import Settings
from app.db.session import Database
from app.jobs.admission import admit_jobs
from app.jobs.service import move_waiting_jobs
from app.jobs.tables import Job
from app.queueing.dispatcher import Dispatcher
from app.queueing.rq_queue import RqQueues
from contract.tasks import RUN_ATTEMPT
from tests.support.jobs import attempts_of, current_attempt_id, dispatch, make_due, set_job
from tests.support.people import People, Person
from tests.support.worker import FakeWorker


async def many_workers(worker: FakeWorker, count: int, queue: str = "cpu") -> None:
    """Let so many workers live."""
    for number in range(count):
        await worker.report(name=f"worker-{number}", queue=queue)


async def many_jobs(person: Person, count: int) -> list[str]:
    """So many jobs of one user, oldest first."""
    image = await person.upload()
    return [(await person.job(input_params={"image_path": image}))["id"] for _ in range(count)]


async def active_jobs(database: Database) -> Counter[object]:
    """Jobs that hold a slot, by user."""
    async with database.transaction() as session:
        rows = await session.execute(text("SELECT user_id FROM jobs WHERE slot IS NOT NULL"))
        return Counter(rows.scalars())


async def dispatched_order(database: Database) -> list[str]:
    """Jobs in the order of their dispatch."""
    async with database.transaction() as session:
        rows = await session.execute(
            text("SELECT job_id FROM job_events WHERE type = 'job.dispatched' ORDER BY id")
        )
        return [str(job_id) for job_id in rows.scalars()]


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


async def test_only_ids_travel_through_redis(
    people: People,
    worker: FakeWorker,
    database: Database,
    dispatcher: Dispatcher,
    redis: Redis,
) -> None:
    """The RQ job's id is the attempt's, its data is JSON and holds nothing but that id."""
    ada = await people.make()
    job = await ada.job()
    await worker.report()

    attempt_id = str(await dispatch(database, dispatcher, job["id"]))

    assert redis.lrange("rq:queue:cpu", 0, -1) == [attempt_id.encode()]
    stored = redis.hgetall(f"rq:job:{attempt_id}")
    assert b"retries_left" not in stored
    function, instance, args, kwargs = json.loads(zlib.decompress(stored[b"data"]))
    assert (function, instance, args, kwargs) == (RUN_ATTEMPT, None, [attempt_id], {})


async def test_creating_a_job_leaves_redis_alone(people: People, redis: Redis) -> None:
    """Nothing is in Redis before the dispatcher puts it there."""
    await (await people.make()).job()

    assert redis.keys("*") == []


async def test_flushed_redis_is_filled_again(
    people: People,
    worker: FakeWorker,
    database: Database,
    dispatcher: Dispatcher,
    redis: Redis,
) -> None:
    """After FLUSHALL every attempt that nobody has claimed is pushed again, once."""
    ada = await people.make()
    await many_jobs(ada, 2)
    await many_workers(worker, 2)
    await dispatcher.run_once()
    before = redis.lrange("rq:queue:cpu", 0, -1)
    redis.flushall()

    assert await dispatcher.push_lost() == 2

    assert sorted(redis.lrange("rq:queue:cpu", 0, -1)) == sorted(before)
    assert await dispatcher.push_lost() == 0


async def test_claimed_attempts_are_not_pushed_again(
    people: People,
    worker: FakeWorker,
    database: Database,
    dispatcher: Dispatcher,
    redis: Redis,
) -> None:
    """A flushed Redis does not matter to an attempt that runs."""
    ada = await people.make()
    job = await ada.job()
    await worker.report()
    await worker.start(await dispatch(database, dispatcher, job["id"]))
    redis.flushall()

    assert await dispatcher.push_lost() == 0


async def test_redis_away_loses_nothing(
    people: People,
    worker: FakeWorker,
    database: Database,
    settings: Settings,
    dispatcher: Dispatcher,
    redis: Redis,
) -> None:
    """Attempts admitted while Redis is away are pushed when it is back."""
    ada = await people.make()
    job = await ada.job()
    await worker.report()
    nowhere = RqQueues("redis://127.0.0.1:1/0")
    cut_off = Dispatcher(database, nowhere, settings, verify_after_seconds=0)

    assert await cut_off.run_once() == 1
    assert await cut_off.push_lost() == 0
    await nowhere.close()
    assert redis.keys("*") == []

    assert await dispatcher.push_lost() == 1
    attempt_id = await current_attempt_id(database, job["id"])
    assert redis.lrange("rq:queue:cpu", 0, -1) == [str(attempt_id).encode()]


async def test_half_taken_attempt_is_pushed_again(
    people: People,
    worker: FakeWorker,
    database: Database,
    dispatcher: Dispatcher,
    redis: Redis,
) -> None:
    """An id that a killed worker left in the intermediate list goes back to the queue."""
    ada = await people.make()
    job = await ada.job()
    await worker.report()
    attempt_id = str(await dispatch(database, dispatcher, job["id"]))
    redis.lmove("rq:queue:cpu", "rq:queue:cpu:intermediate", "LEFT", "RIGHT")

    assert await dispatcher.push_lost() == 1

    assert redis.lrange("rq:queue:cpu", 0, -1) == [attempt_id.encode()]
    assert redis.llen("rq:queue:cpu:intermediate") == 0


async def test_stranded_attempts_are_withdrawn(
    people: People,
    worker: FakeWorker,
    database: Database,
    dispatcher: Dispatcher,
    redis: Redis,
) -> None:
    """When the last worker of a queue is gone, its unclaimed attempts give their slots back."""
    ada = await people.make()
    job = await ada.job()
    await worker.report()
    attempt_id = await dispatch(database, dispatcher, job["id"])
    await worker.report(stopping=True)
    async with database.transaction() as session:
        await session.execute(text("UPDATE attempts SET dispatched_at = now() - interval '1 hour'"))

    assert await dispatcher.withdraw_stranded() == 1

    assert not await active_jobs(database)
    assert redis.keys("rq:queue:cpu") == []
    assert (await worker.claim(attempt_id)).status_code == 409
    await worker.report(name="back-again")
    again = await dispatch(database, dispatcher, job["id"])
    assert again != attempt_id
    assert (await worker.claim(again)).status_code == 200


async def test_released_attempt_counts_no_failure(
    people: People, worker: FakeWorker, database: Database, dispatcher: Dispatcher
) -> None:
    """A worker that hands an attempt back costs the job nothing but a moment."""
    ada = await people.make()
    job = await ada.job()
    await worker.report()
    spec = await worker.start(await dispatch(database, dispatcher, job["id"]))

    answer = await worker.call(spec, "finish", {"outcome": "released", "reason": "draining"})

    assert answer.json()["job_status"] == "QUEUED"
    assert await dispatcher.run_once() == 0
    await make_due(database, job["id"])
    again = await worker.start(await dispatch(database, dispatcher, job["id"]))
    assert (spec.attempt, again.attempt) == (1, 1)
    assert [a.status for a in await attempts_of(database, job["id"])] == ["RELEASED", "RUNNING"]


async def test_retries_wait_and_then_end(
    people: People, worker: FakeWorker, database: Database, dispatcher: Dispatcher
) -> None:
    """A failing job waits 30 s, then 60 s, then has FAILED with its attempts spent."""
    ada = await people.make()
    job = await ada.job()
    await worker.report()
    waits = []
    for _ in range(3):
        spec = await worker.start(await dispatch(database, dispatcher, job["id"]))
        answer = await worker.fail(spec)
        if answer.json()["job_status"] == "QUEUED":
            assert await dispatcher.run_once() == 0
            async with database.transaction() as session:
                wait = await session.execute(
                    text(
                        "SELECT extract(epoch FROM available_at - ("
                        "SELECT max(finished_at) FROM attempts WHERE job_id = jobs.id)) FROM jobs"
                    )
                )
                waits.append(float(wait.scalar_one()))
            await make_due(database, job["id"])

    ended = await ada.get(job["id"])
    assert waits == [30, 60]
    assert (ended["status"], ended["attempt"]) == ("FAILED", 3)
    assert ended["error"] == {
        "code": "PIPELINE_ERROR",
        "message": "it broke",
        "permanent": False,
    }


async def test_permanent_failure_is_not_retried(
    people: People, worker: FakeWorker, database: Database, dispatcher: Dispatcher
) -> None:
    """A failure that the same input would bring again ends the job at once."""
    ada = await people.make()
    job = await ada.job()
    await worker.report()
    spec = await worker.start(await dispatch(database, dispatcher, job["id"]))

    await worker.fail(spec, permanent=True)

    ended = await ada.get(job["id"])
    assert (ended["status"], ended["attempt"]) == ("FAILED", 1)


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


async def test_two_queues_of_one_user_do_not_deadlock(
    people: People, worker: FakeWorker, database: Database, dispatcher: Dispatcher
) -> None:
    """Jobs of one user on two queues can be put back at the same moment, many times over."""
    ada = await people.make()
    image = await ada.upload()
    for _ in range(5):
        jobs = [
            await ada.job(model_id=model, input_params={"image_path": image})
            for model in ("inflate-v1", "sf3d-v1")
        ]
        await worker.report()
        await worker.report(name="gpu", queue="gpu", pipelines=("sf3d",))
        specs = [
            await worker.start(await dispatch(database, dispatcher, job["id"])) for job in jobs
        ]
        answers = await asyncio.gather(*(worker.fail(spec) for spec in specs))
        assert [answer.json()["job_status"] for answer in answers] == ["QUEUED", "QUEUED"]
        for job in jobs:
            await ada.client.post(f"/api/v1/jobs/{job['id']}/cancel")


async def test_a_job_that_everybody_hands_back_ends(
    people: People, worker: FakeWorker, database: Database, dispatcher: Dispatcher
) -> None:
    """Ten releases in a row count as one failure, so that no job goes round for ever."""
    ada = await people.make()
    job = await ada.job()
    await worker.report()
    await set_job(database, job["id"], max_attempts=1)
    for _ in range(10):
        await make_due(database, job["id"])
        spec = await worker.start(await dispatch(database, dispatcher, job["id"]))
        await worker.call(spec, "finish", {"outcome": "released", "reason": "no GPU"})

    ended = await ada.get(job["id"])
    assert (ended["status"], ended["error"]["code"]) == ("FAILED", "NO_CAPABLE_WORKER")
    assert "no GPU" in ended["error"]["message"]


async def test_waiting_jobs_follow_their_model_to_another_queue(
    people: People, worker: FakeWorker, database: Database, dispatcher: Dispatcher
) -> None:
    """When the catalog moves a model to another queue, what waits for it moves too."""
    ada = await people.make()
    await ada.job()
    async with database.transaction() as session:
        assert await move_waiting_jobs(session, "inflate-v1", "gpu") == 1
        await session.execute(text("UPDATE models SET queue = 'gpu' WHERE id = 'inflate-v1'"))
    try:
        await worker.report(queue="gpu")
        assert await dispatcher.run_once() == 1
    finally:
        async with database.transaction() as session:
            await session.execute(text("UPDATE models SET queue = 'cpu' WHERE id = 'inflate-v1'"))
