"""What is in Redis: only hints, and again what got lost."""

import json
import zlib

from redis import Redis
from sqlalchemy import text

from app.config import Settings
from app.db.session import Database
from app.queueing.dispatcher import Dispatcher
from app.queueing.rq_queue import RqQueues
from contract.tasks import RUN_ATTEMPT
from tests.support.crowds import many_jobs, many_workers
from tests.support.jobs import active_jobs, current_attempt_id, dispatch, dispatched_order
from tests.support.people import People
from tests.support.worker import FakeWorker


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
    """No job is in Redis before the dispatcher puts it there."""
    await (await people.make()).job()

    # Counts of requests may be, which say nothing of jobs.
    assert [key for key in redis.keys("*") if not key.startswith(b"LIMITS:")] == []


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
    cut_off = Dispatcher(database, nowhere, settings, lost_after_seconds=0)

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


async def test_nothing_is_pushed_again_while_no_api_answers(
    people: People,
    worker: FakeWorker,
    database: Database,
    dispatcher: Dispatcher,
    redis: Redis,
) -> None:
    """Whoever has taken an attempt cannot claim it then, and the next one could not either."""
    ada = await people.make()
    job = await ada.job()
    await worker.report()
    await dispatch(database, dispatcher, job["id"])
    redis.flushall()

    async with database.transaction() as session:
        await session.execute(text("UPDATE api_processes SET seen_at = now() - interval '1 min'"))
    assert await dispatcher.push_lost() == 0

    async with database.transaction() as session:
        await session.execute(text("UPDATE api_processes SET seen_at = now()"))
    assert await dispatcher.push_lost() == 1


async def test_withdrawn_attempt_gives_its_slot_to_another_model(
    people: People, worker: FakeWorker, database: Database, dispatcher: Dispatcher
) -> None:
    """What waited for the slot, of a model that somebody does serve, is due at once."""
    ada = await people.make(max_active_jobs=1)
    stranded = await ada.job()
    await worker.report()
    await worker.report(name="gpu", queue="gpu", pipelines=("dreamfusion",))
    await dispatch(database, dispatcher, stranded["id"])
    waiting = await ada.job(model_id="dreamfusion-sd", prompt="a teapot", input_params={})
    assert await dispatcher.run_once() == 0
    await worker.report(stopping=True)
    async with database.transaction() as session:
        await session.execute(text("UPDATE attempts SET dispatched_at = now() - interval '1 hour'"))

    assert await dispatcher.withdraw_stranded() == 1
    assert await dispatcher.run_once() == 1
    assert (await dispatched_order(database))[-1] == waiting["id"]
