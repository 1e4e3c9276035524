"""The windows between two steps: something happened, and whoever asked for it does not know."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import pytest
from redis import Redis
from sqlalchemy import func, select, text

from app.config import Settings
from app.db.session import Database
from app.jobs.admission import admit_jobs
from app.jobs.tables import Job
from app.queueing.dispatcher import Dispatcher
from app.queueing.rescuer import rescue_lost_attempts
from app.queueing.retention import delete_unused_objects, expire_jobs
from app.queueing.rq_queue import RqQueues
from app.storage.base import ObjectStore
from tests.faults.proxy import FaultProxy, Mode
from tests.support.jobs import attempts_of, current_attempt_id, end_lease, set_job
from tests.support.people import JOBS, People
from tests.support.runs import Stage
from tests.support.worker import BASE

QUEUE = "rq:queue:cpu"
TOO_LATE = "It had finished before the cancellation reached the worker."


async def _count_jobs(database: Database) -> int:
    async with database.transaction() as session:
        return int((await session.execute(select(func.count()).select_from(Job))).scalar_one())


async def _admit(database: Database, settings: Settings) -> int:
    """Let a dispatcher admit what is due and die before it pushes."""
    async with database.transaction() as session:
        return len(await admit_jobs(session, settings))


@pytest.mark.parametrize(
    ("mode", "created"), [(Mode.RESET, 0), (Mode.BLACK_HOLE, 0), (Mode.CUT_ANSWER, 1)]
)
async def test_create_that_nobody_answered(
    people: People, proxy: FaultProxy, database: Database, mode: Mode, created: int
) -> None:
    """A create without an answer, whether it arrived or not, is repeated and makes one job."""
    person = await people.make()
    body = {"model_id": "inflate-v1", "input_params": {"image_path": await person.upload()}}
    headers = {"x-api-key": person.key, "Idempotency-Key": "once"}
    proxy.break_requests(mode, b"POST /api/v1/jobs/")
    async with httpx.AsyncClient(base_url=proxy.url, headers=headers, timeout=2) as client:
        with pytest.raises(httpx.TransportError):
            await client.post(f"{JOBS}/", json=body)
        assert await _count_jobs(database) == created
        proxy.heal()
        answers = [await client.post(f"{JOBS}/", json=body) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [201, 201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert await _count_jobs(database) == 1


async def test_cancel_whose_answer_was_lost(
    people: People, proxy: FaultProxy, stage: Stage
) -> None:
    """A cancellation that arrived and was not answered holds, and its repeat says so."""
    person = await people.make()
    job = await person.job()
    proxy.break_requests(Mode.CUT_ANSWER, b"/cancel")
    headers = {"x-api-key": person.key}
    async with httpx.AsyncClient(base_url=proxy.url, headers=headers, timeout=2) as client:
        with pytest.raises(httpx.TransportError):
            await client.post(f"{JOBS}/{job['id']}/cancel")
        proxy.heal()
        again = await client.post(f"{JOBS}/{job['id']}/cancel")

    assert (again.status_code, again.json()["code"]) == (409, "JOB_STATE_CONFLICT")
    assert (await person.get(job["id"]))["status"] == "CANCELLED"


async def test_dispatcher_died_before_the_push(
    people: People, stage: Stage, dispatcher: Dispatcher, settings: Settings, redis: Redis
) -> None:
    """An attempt that was committed and never pushed is pushed by another dispatcher's pass."""
    person = await people.make()
    await stage.worker.report()
    job = await person.job()
    assert await _admit(stage.database, settings) == 1
    assert redis.llen(QUEUE) == 0

    assert await dispatcher.run_once() == 0
    assert await dispatcher.push_lost() == 1
    attempt_id = await current_attempt_id(stage.database, job["id"])

    assert redis.lrange(QUEUE, 0, -1) == [str(attempt_id).encode()]
    assert (await stage.worker.succeed(await stage.worker.start(attempt_id))).status_code == 200
    assert len(await attempts_of(stage.database, job["id"])) == 1


async def test_push_that_was_not_recorded(
    people: People,
    stage: Stage,
    dispatcher: Dispatcher,
    queues: RqQueues,
    settings: Settings,
    redis: Redis,
) -> None:
    """An attempt that was pushed by a dispatcher that then died is found, not pushed again."""
    person = await people.make()
    await stage.worker.report()
    await person.job()
    async with stage.database.transaction() as session:
        admitted = await admit_jobs(session, settings)
    await queues.push(admitted)

    assert await dispatcher.push_lost() == 0
    assert redis.llen(QUEUE) == 1


async def test_task_that_was_pushed_twice(
    people: People, stage: Stage, dispatcher: Dispatcher, queues: RqQueues, settings: Settings
) -> None:
    """Of two workers that hold the same task only the first may run it."""
    person = await people.make()
    await stage.worker.report()
    job = await person.job()
    async with stage.database.transaction() as session:
        admitted = await admit_jobs(session, settings)
    await queues.push(admitted)
    await queues.push(admitted)
    claims = await asyncio.gather(
        *(stage.worker.claim(admitted[0].attempt_id, uuid4()) for _ in range(2))
    )

    assert sorted(claim.status_code for claim in claims) == [200, 409]
    assert (await person.get(job["id"]))["status"] == "RUNNING"


@pytest.mark.parametrize("until", [None, "1", "+inf"])
async def test_task_whose_worker_died_after_the_pop(
    people: People, stage: Stage, dispatcher: Dispatcher, redis: Redis, until: str | None
) -> None:
    """A task that was popped and never claimed is pushed again, whatever RQ's note says of it."""
    person = await people.make()
    await stage.worker.report()
    job = await person.job()
    await dispatcher.run_once()
    popped = redis.lpop(QUEUE)
    if until is not None:  # by the clock of the worker that died
        redis.zadd("rq:wip:cpu", {popped + b":execution": until})

    assert await dispatcher.push_lost() == 1
    assert redis.lrange(QUEUE, 0, -1) == [popped]
    assert str(await current_attempt_id(stage.database, job["id"])).encode() == popped


async def test_task_that_was_popped_a_moment_ago(
    people: People, stage: Stage, queues: RqQueues, settings: Settings, redis: Redis
) -> None:
    """A worker that has just taken a task has time to claim it."""
    dispatcher = Dispatcher(stage.database, queues, settings)
    person = await people.make()
    await stage.worker.report()
    await person.job()
    await dispatcher.run_once()
    redis.lpop(QUEUE)

    assert [await dispatcher.push_lost() for _ in range(3)] == [0, 0, 0]
    assert redis.llen(QUEUE) == 0


@pytest.mark.parametrize("round_", range(5))
async def test_finish_against_cancel(people: People, stage: Stage, round_: int) -> None:
    """Report and cancellation at the same moment: one wins, and the job says which."""
    person = await people.make()
    job, spec = await stage.running(person)
    artifact = await stage.worker.upload(spec)
    report = {"outcome": "succeeded", "artifact_ids": [artifact], "metrics": {}}
    finished, cancelled = await asyncio.gather(
        stage.worker.call(spec, "finish", report),
        person.client.post(f"{JOBS}/{job['id']}/cancel"),
    )
    ended = await person.get(job["id"])

    assert (finished.status_code, ended["status"]) == (200, "SUCCEEDED")
    assert cancelled.status_code in {200, 409}
    assert ended["message"] == (TOO_LATE if cancelled.status_code == 200 else None)


@pytest.mark.parametrize("round_", range(5))
async def test_finish_against_lease_expiry(
    people: People, stage: Stage, settings: Settings, round_: int
) -> None:
    """Report and rescuer at the same moment: a success, or another attempt, and never both."""
    person = await people.make()
    job, spec = await stage.running(person)
    artifact = await stage.worker.upload(spec)
    await end_lease(stage.database, spec.attempt_id)
    report = {"outcome": "succeeded", "artifact_ids": [artifact], "metrics": {}}
    finished, rescued = await asyncio.gather(
        stage.worker.call(spec, "finish", report), rescue_lost_attempts(stage.database, settings)
    )
    now = await person.get(job["id"])

    assert (finished.status_code, rescued, now["status"]) in {
        (200, 0, "SUCCEEDED"),
        (409, 1, "QUEUED"),
    }
    shown = (await person.client.get(f"{JOBS}/{job['id']}/artifacts")).json()["items"]
    assert ("model_3d" in {item["kind"] for item in shown}) == (now["status"] == "SUCCEEDED")


async def test_retention_against_download(people: People, stage: Stage, store: ObjectStore) -> None:
    """While a job expires, downloads answer a URL or 410, and 410 for ever after the first."""
    person = await people.make()
    job = await stage.succeeded(person)
    async with stage.database.transaction() as session:
        past = (
            await session.execute(select(func.now() - text("interval '1 second'")))
        ).scalar_one()
    await set_job(stage.database, job["id"], expires_at=past)

    async def download() -> list[int]:
        path = f"{JOBS}/{job['id']}/download"
        return [(await person.client.get(path)).status_code for _ in range(20)]

    async def retain() -> None:
        await expire_jobs(stage.database)
        await delete_unused_objects(stage.database, store)

    codes, _ = await asyncio.gather(download(), retain())

    assert set(codes) <= {200, 410}
    assert codes == sorted(codes)
    assert (await person.client.get(f"{JOBS}/{job['id']}/download")).status_code == 410


@pytest.mark.parametrize("hours", [-1, 1])
async def test_worker_whose_clock_is_off(
    people: People, stage: Stage, settings: Settings, hours: int
) -> None:
    """A worker whose clock is an hour off is alive, gets a lease and keeps it: no time is its."""
    person = await people.make()
    beat = {
        "name": stage.worker.name,
        "hostname": "skewed",
        "version": "0",
        "queue": "cpu",
        "started_at": (datetime.now(UTC) + timedelta(hours=hours)).isoformat(),
        "cpu_count": 1,
        "memory_total_mib": 1024,
        "pipelines": [{"name": "inflate", "version": "1", "runnable": True, "warm": False}],
    }
    job = await person.job()
    answer = await stage.worker.client.post(f"{BASE}/workers/heartbeat", json=beat)
    assert answer.status_code == 200, answer.text
    await stage.dispatcher.run_once()
    spec = await stage.worker.start(await current_attempt_id(stage.database, job["id"]))
    assert await rescue_lost_attempts(stage.database, settings) == 0
    extended = (await stage.worker.call(spec, "heartbeat", {"progress": None})).json()

    left = datetime.fromisoformat(extended["lease_expires_at"]) - datetime.now(UTC)
    assert timedelta(0) < left <= timedelta(seconds=settings.lease_seconds)
    assert (await stage.worker.succeed(spec)).status_code == 200
