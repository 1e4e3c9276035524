"""The read path of polling answers just as the usual way would."""

import asyncio
import json
from typing import Any
from uuid import UUID

import pytest
from fastapi import FastAPI
from sqlalchemy import text

from app.accounts.roles import Role
from app.config import Settings
from app.db import session as sessions
from app.db.session import Database
from app.jobs.errors import JobNotFoundError
from app.jobs.poll import JobReader, Look
from tests.support.apps import another_app
from tests.support.jobs import set_job
from tests.support.people import JOBS, People, Person, png_bytes
from tests.support.runs import Stage


async def _cancelled(person: Person) -> dict[str, Any]:
    job = await person.job()
    await person.client.post(f"{JOBS}/{job['id']}/cancel")
    return job


# What the list leaves out, because it would cost a statement for each job.
_ONLY_OF_ONE = {"previews", "queue_position", "eta_seconds", "warning"}


@pytest.mark.parametrize(
    "state", ["QUEUED", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED", "again"]
)
async def test_same_view_as_in_the_list(people: People, stage: Stage, state: str) -> None:
    """In every state the answer is what the ORM makes of the job, as the list shows it."""
    person = await people.make()
    match state:
        case "QUEUED":
            job = await person.job(headers={"Idempotency-Key": "k"})
        case "RUNNING" | "again":
            job, spec = await stage.running(person)
            progress = {"percent": 33.3, "stage": "texture", "message": 'Ä "quoted" \\ 語'}
            await stage.worker.call(spec, "heartbeat", {"progress": progress})
            for name in ("front.png", "back.png"):
                await stage.worker.upload(
                    spec, png_bytes(), kind="preview", name=name, media_type="image/png"
                )
            if state == "again":
                await stage.worker.fail(spec)
        case "FAILED":
            job = await stage.failed(person)
        case "CANCELLED":
            job = await _cancelled(person)
        case _:
            job = await stage.succeeded(person)
    if state == "EXPIRED":
        await set_job(stage.database, job["id"], status="EXPIRED")
    seen = await person.get(job["id"])
    listed = (await person.client.get(f"{JOBS}/")).json()["items"]
    expected = next(item for item in listed if item["id"] == job["id"])
    assert {k: v for k, v in seen.items() if k not in _ONLY_OF_ONE} == {
        k: v for k, v in expected.items() if k not in _ONLY_OF_ONE
    }


async def test_kept_answer_is_fresh(people: People, stage: Stage) -> None:
    """Whatever changes, the next answer has it: the row, the previews and back again."""
    person = await people.make()
    job, spec = await stage.running(person)
    before = await person.get(job["id"])
    assert await person.get(job["id"]) == before
    progress = {"percent": 50, "stage": "mesh"}
    await stage.worker.call(spec, "heartbeat", {"progress": progress})
    assert (await person.get(job["id"]))["progress_percent"] == 50
    await stage.worker.upload(
        spec, png_bytes(), kind="preview", name="front.png", media_type="image/png"
    )
    assert len((await person.get(job["id"]))["previews"]) == 1
    await set_job(stage.database, job["id"], prompt="another")
    assert (await person.get(job["id"]))["prompt"] == "another"


async def test_kept_answer_is_for_its_readers_only(people: People, stage: Stage) -> None:
    """An answer that was kept for one caller is not given to another who may not read it."""
    owner = await people.make()
    job, _ = await stage.running(owner)
    await owner.get(job["id"])
    stranger = await people.make(organisation="Other")
    colleague = await people.make()
    manager = await people.make(role=Role.ADMIN)
    statuses = [
        (await person.client.get(f"{JOBS}/{job['id']}")).status_code
        for person in (stranger, colleague, manager)
    ]
    assert statuses == [404, 403, 200]


async def test_errors_are_those_of_the_route(people: People, stage: Stage) -> None:
    """Refusals are the same whether the id is spelled plainly or so that the route is asked."""
    owner = await people.make()
    job, _ = await stage.running(owner)
    stranger = await people.make(organisation="Other")
    keys = [stranger.key, "unknown-key-of-nobody", "p3d_user_x", "test-worker-key", ""]
    for key in keys:
        answers = [
            await owner.client.get(f"{JOBS}/{spelling}", headers={"x-api-key": key})
            for spelling in (job["id"], job["id"].replace("-", ""))
        ]
        plain, other = ({**answer.json(), "request_id": None} for answer in answers)
        assert plain == other
        assert answers[0].status_code == answers[1].status_code
        assert answers[0].headers["content-type"] == answers[1].headers["content-type"]


async def test_same_answer_as_the_route(people: People, stage: Stage) -> None:
    """Body, entity tag and all other headers are those of the route."""
    owner = await people.make()
    job, _ = await stage.running(owner)
    plain = await owner.client.get(f"{JOBS}/{job['id']}")
    other = await owner.client.get(f"{JOBS}/{job['id'].replace('-', '')}")
    changing = {"date", "x-request-id", "x-response-time-ms", "ratelimit"}
    assert plain.content == other.content
    assert {k: v for k, v in plain.headers.items() if k not in changing} == {
        k: v for k, v in other.headers.items() if k not in changing
    }


async def test_many_at_once(people: People, stage: Stage, app: FastAPI) -> None:
    """Polls that share a statement each get their own job; one given up takes nothing away."""
    person = await people.make()
    jobs = [(await stage.running(person))[0]["id"] for _ in range(2)]
    unknown = str(UUID(int=7))
    reader: JobReader = app.state.job_reader
    principal = await person.principal(stage.database)
    given_up = asyncio.create_task(reader.look(principal, UUID(jobs[0])))
    await asyncio.sleep(0)
    given_up.cancel()
    looks = await asyncio.gather(
        *(reader.look(principal, UUID(job)) for job in [*jobs, unknown] * 10),
        return_exceptions=True,
    )
    for job, look in zip([*jobs, unknown] * 10, looks, strict=True):
        if job == unknown:
            assert isinstance(look, JobNotFoundError)
        else:
            assert isinstance(look, Look)
            assert json.loads(look.body)["id"] == job


async def test_after_the_database_hung_up(people: People, stage: Stage) -> None:
    """When every connection was cut, as by a restart, polls and other requests work at once."""
    person = await people.make()
    job, _ = await stage.running(person)
    await person.get(job["id"])
    async with stage.database.transaction() as session:
        await session.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    await asyncio.sleep(0.2)
    assert (await person.get(job["id"]))["status"] == "RUNNING"
    assert (await person.client.get(f"{JOBS}/")).status_code == 200


async def test_without_an_estimate(
    people: People, settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job is told of even if the database cannot say in time how long it will wait."""
    monkeypatch.setitem(sessions.SERVER_SETTINGS, "lock_timeout", "100ms")
    person = await people.make()
    job = await person.job()
    path, headers = f"{JOBS}/{job['id']}", {"x-api-key": person.key}
    async with another_app(settings) as client:
        async with database.transaction() as session:
            await session.execute(text("LOCK TABLE user_queue"))
            without = await client.get(path, headers=headers)
        with_estimate = await client.get(path, headers=headers)
    assert without.status_code == 200
    told = without.json()
    assert (told["status"], told["queue_position"], told["eta_seconds"]) == ("QUEUED", None, None)
    assert with_estimate.json() == told | {"queue_position": 1}
