"""The way from a dispatcher to Redis is broken: nothing is lost, and nothing is there twice."""

from collections.abc import AsyncIterator

import pytest
from redis import Redis

from app.config import Settings
from app.db.session import Database
from app.queueing import rq_queue
from app.queueing.dispatcher import Dispatcher
from app.queueing.rq_queue import RqQueues
from devstack.servers import RedisServer
from tests.faults.proxy import FaultProxy, Mode
from tests.support.crowds import many_jobs, many_workers
from tests.support.jobs import attempts_of
from tests.support.people import People
from tests.support.worker import FakeWorker

QUEUE = "rq:queue:cpu"
PUSH = b"RPUSH"
JOBS = 3


@pytest.fixture
async def way(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[FaultProxy]:
    """The way from one dispatcher to Redis, which that dispatcher soon gives up."""
    monkeypatch.setattr(rq_queue, "REDIS_SECONDS", 1.0)
    with FaultProxy(redis_server.port) as way:
        yield way


@pytest.fixture
async def far(
    way: FaultProxy, redis: Redis, database: Database, settings: Settings
) -> AsyncIterator[Dispatcher]:
    """That dispatcher."""
    queues = RqQueues(way.instead_of(settings.redis_url))
    yield Dispatcher(database, queues, settings, lost_after_seconds=0)
    await queues.close()


@pytest.mark.parametrize(
    ("mode", "pushed"),
    [(Mode.CUT_ANSWER, JOBS), (Mode.HOLD_ANSWER, JOBS), (Mode.RESET, 0), (Mode.BLACK_HOLE, 0)],
)
async def test_push_without_an_answer(
    people: People,
    worker: FakeWorker,
    database: Database,
    far: Dispatcher,
    way: FaultProxy,
    redis: Redis,
    mode: Mode,
    pushed: int,
) -> None:
    """Whether a push arrived or not is found out, and each attempt is in its queue once."""
    jobs = await many_jobs(await people.make(), JOBS)
    await many_workers(worker, JOBS)
    way.break_requests(mode, PUSH)
    assert await far.run_once() == JOBS
    assert way.hurt.is_set()
    assert redis.llen(QUEUE) == pushed
    way.heal()

    assert await far.push_lost() == JOBS - pushed
    assert await far.push_lost() == 0
    attempts = [str((await attempts_of(database, job))[-1].id).encode() for job in jobs]
    assert redis.lrange(QUEUE, 0, -1) == attempts


async def test_redis_out_of_reach_for_a_while(
    people: People,
    worker: FakeWorker,
    database: Database,
    far: Dispatcher,
    way: FaultProxy,
    redis: Redis,
) -> None:
    """Every duty gives up and goes on, jobs are admitted all the same, and pushed afterwards."""
    ada = await people.make()
    (first,) = await many_jobs(ada, 1)
    await many_workers(worker, JOBS)
    assert await far.run_once() == 1
    way.break_requests(Mode.BLACK_HOLE)
    (second,) = await many_jobs(ada, 1)
    assert await far.run_once() == 1
    assert await far.push_lost() == 0
    assert redis.llen(QUEUE) == 1
    way.heal()

    assert await far.push_lost() == 1
    attempts = [str((await attempts_of(database, job))[-1].id).encode() for job in (first, second)]
    assert redis.lrange(QUEUE, 0, -1) == attempts
