"""The way from the API to Postgres is broken: what the client is told, and what is so."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.config import Settings
from app.db import pool, signals
from app.db import session as sessions
from devstack.servers import PostgresServer
from tests.conftest import WORKER_KEY
from tests.faults.proxy import FaultProxy, Mode
from tests.support.apps import another_app
from tests.support.jobs import attempts_of
from tests.support.people import JOBS, People, Person
from tests.support.runs import Stage

COMMIT = b"COMMIT"
KEY = "a-key-used-once"
SHORT = 1.0


@pytest.fixture
async def way(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[FaultProxy]:
    """The way from one API to Postgres, which that API soon gives up."""
    monkeypatch.setattr(sessions, "CONNECT_SECONDS", SHORT)
    monkeypatch.setattr(sessions, "STATEMENT_SECONDS", SHORT)
    monkeypatch.setattr(pool, "CONNECT_SECONDS", SHORT)
    monkeypatch.setattr(pool, "STATEMENT_SECONDS", SHORT)
    monkeypatch.setattr(signals, "STATEMENT_SECONDS", SHORT)
    monkeypatch.setattr(signals, "PROOF_SECONDS", SHORT)
    with FaultProxy(postgres.port) as way:
        yield way


@pytest.fixture
async def far(
    way: FaultProxy, settings: Settings, people: People
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of that API."""
    async with another_app(settings, database_url=way.instead_of(settings.database_url)) as client:
        yield client
        way.heal()


async def ask(client: httpx.AsyncClient, path: str, **options: Any) -> httpx.Response:
    """POST again until the server knows whether the last time counted."""
    while True:
        answer = await client.post(path, **options)
        # The server may not have noticed yet that a connection of its is gone.
        if answer.status_code < 500 and "IN_FLIGHT" not in answer.text:
            return answer
        await asyncio.sleep(0.1)


async def create_request(person: Person) -> dict[str, Any]:
    """What to POST for a job with an idempotency key."""
    return {
        "json": {"model_id": "inflate-v1", "input_params": {"image_path": await person.upload()}},
        "headers": {"x-api-key": person.key, "Idempotency-Key": KEY},
    }


def must_ask_again(answer: httpx.Response) -> bool:
    """Whether the client is told that it is to try again."""
    return (answer.status_code, answer.json()["code"]) == (503, "SERVICE_UNAVAILABLE")


@pytest.mark.parametrize(
    ("mode", "when", "created"),
    [
        (Mode.RESET, (b"INSERT INTO jobs",), 0),
        (Mode.RESET, (b"INSERT INTO jobs", KEY.encode()), 0),
        (Mode.CUT_ANSWER, (b"INSERT INTO jobs", KEY.encode()), 1),
    ],
    # It is one statement, which is prepared first and carries the key when it is run.
    ids=["while preparing", "before the commit", "after the commit"],
)
async def test_create_without_the_database_s_answer(
    people: People,
    far: httpx.AsyncClient,
    way: FaultProxy,
    mode: Mode,
    when: tuple[bytes, ...],
    created: int,
) -> None:
    """The client is told to try again, and its repeat makes one job or finds the one made."""
    person = await people.make()
    request = await create_request(person)
    way.break_requests(mode, *when)
    assert must_ask_again(await far.post(f"{JOBS}/", **request))
    jobs = (await person.client.get(f"{JOBS}/")).json()["items"]
    assert len(jobs) == created
    way.heal()
    repeats = [await ask(far, f"{JOBS}/", **request) for _ in range(2)]

    assert [repeat.status_code for repeat in repeats] == [201, 201]
    assert len({repeat.json()["id"] for repeat in repeats} | {job["id"] for job in jobs}) == 1
    assert len((await person.client.get(f"{JOBS}/")).json()["items"]) == 1


async def test_cancel_without_the_database_s_answer(
    people: People, far: httpx.AsyncClient, way: FaultProxy
) -> None:
    """A cancellation whose commit was not answered holds, and its repeat says so."""
    person = await people.make()
    job = await person.job()
    headers = {"x-api-key": person.key}
    way.break_requests(Mode.CUT_ANSWER, b"UPDATE jobs", COMMIT)
    assert must_ask_again(await far.post(f"{JOBS}/{job['id']}/cancel", headers=headers))
    way.heal()
    again = await ask(far, f"{JOBS}/{job['id']}/cancel", headers=headers)

    assert (again.status_code, again.json()["code"]) == (409, "JOB_STATE_CONFLICT")
    assert (await person.events(job["id"])).count("job.cancelled") == 1


async def test_finish_without_the_database_s_answer(
    people: People, stage: Stage, far: httpx.AsyncClient, way: FaultProxy
) -> None:
    """A report whose commit was not answered counts once, however often the worker repeats it."""
    person = await people.make()
    job, spec = await stage.running(person)
    artifact = await stage.worker.upload(spec)
    report = {"outcome": "succeeded", "artifact_ids": [artifact], "metrics": {}}
    near, stage.worker.client = stage.worker.client, far
    far.headers["x-api-key"] = WORKER_KEY
    way.break_requests(Mode.CUT_ANSWER, b"'SUCCEEDED'", UUID(artifact).bytes)
    assert must_ask_again(await stage.worker.call(spec, "finish", report))
    way.heal()
    again = await stage.worker.call(spec, "finish", report)
    stage.worker.client = near

    assert (again.status_code, again.json()["replayed"]) == (200, True)
    assert (await person.events(job["id"])).count("job.succeeded") == 1
    assert [a.status for a in await attempts_of(stage.database, job["id"])] == ["SUCCEEDED"]


async def test_database_that_swallows_everything(
    people: People, far: httpx.AsyncClient, way: FaultProxy
) -> None:
    """Every client gets an answer, however many ask, and all is well by itself afterwards."""
    crowd = [await people.make() for _ in range(16)]
    job = await crowd[0].job()
    paths = [f"{JOBS}/", f"{JOBS}/{job['id']}", f"{JOBS}/{job['id']}/events", f"{JOBS}/metrics"]
    body = {"model_id": "dreamfusion-sd", "prompt": "a teapot", "input_params": {}}

    async def ask_all() -> list[httpx.Response]:
        """More requests than there are connections, for each way to the database."""
        mine = {"x-api-key": crowd[0].key}
        reads = [far.get(path, headers=mine) for path in paths for _ in crowd]
        creates = [
            far.post(f"{JOBS}/", headers={"x-api-key": person.key}, json=body) for person in crowd
        ]
        return await asyncio.gather(*reads, *creates)

    async def until_all_is_well() -> None:
        codes = {503}
        while codes != {200, 201}:  # what was under way, or takes long here, may be given up
            codes = {answer.status_code for answer in await ask_all()}
            assert codes <= {200, 201, 503}

    # Keys and the model are known then, as they are in a process that has been at work.
    await until_all_is_well()
    way.break_requests(Mode.BLACK_HOLE)
    assert all(map(must_ask_again, await ask_all()))
    way.heal()
    await until_all_is_well()


async def test_watching_goes_on_after_the_database_was_out_of_reach(
    people: People, far: httpx.AsyncClient, way: FaultProxy
) -> None:
    """Whoever waits for a change hears of it again, though nobody hung up."""
    person = await people.make()
    headers = {"x-api-key": person.key}
    way.break_requests(Mode.BLACK_HOLE)
    await asyncio.to_thread(way.hurt.wait, 30)
    await asyncio.sleep(3 * SHORT)
    way.heal()
    job = await person.job()
    path = f"{JOBS}/{job['id']}"
    etag = (await person.client.get(path)).headers["etag"]
    waiting = asyncio.create_task(
        ask_again(far, path, headers | {"Prefer": "wait=60", "If-None-Match": etag})
    )
    await person.client.post(f"{path}/cancel")

    assert (await waiting).json()["status"] == "CANCELLED"


async def ask_again(
    client: httpx.AsyncClient, path: str, headers: dict[str, str]
) -> httpx.Response:
    """GET until there is something new to say."""
    while True:
        answer = await client.get(path, headers=headers)
        if answer.status_code == 200:
            return answer
