"""Files and the log that come with a report: committed in the moment the attempt ends."""

import asyncio
import hashlib
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from app.config import Settings
from app.storage.base import ObjectStart, ObjectStore
from contract.attempts import ATTEMPT_TOKEN_HEADER, SHORT_LOG, JobSpec
from tests.support.apps import DEAD_PORT, another_app
from tests.support.locks import until_blocked_or_done
from tests.support.people import JOBS, People, Person
from tests.support.problems import assert_problem
from tests.support.rows import nothing_written
from tests.support.runs import Stage
from tests.support.worker import BASE, GLB

LOG = 'first line\nlast line with a NUL \x00 and "quotes"\n'


async def _stored(stage: Stage, spec: JobSpec, **ticket: Any) -> str:
    """A file that lies in storage and was not committed; answers its ticket's id."""
    granted = (await stage.worker.ticket(spec, **ticket)).json()
    await stage.worker.put(granted)
    return str(granted["ticket_id"])


async def _succeed(stage: Stage, spec: JobSpec, *tickets: str, **more: Any) -> httpx.Response:
    report = {"outcome": "succeeded", "artifact_ids": list(tickets), "metrics": {}, **more}
    return await stage.worker.call(spec, "finish", report)


async def _finish(
    client: httpx.AsyncClient, spec: JobSpec, report: dict[str, Any]
) -> httpx.Response:
    """Report to another API process."""
    return await client.post(
        f"{BASE}/attempts/{spec.attempt_id}/finish",
        json=report,
        headers={ATTEMPT_TOKEN_HEADER: spec.attempt_token},
    )


async def _artifacts(person: Person, job: dict[str, Any]) -> list[dict[str, Any]]:
    """What an attempt has made, as its user sees it."""
    items = (await person.client.get(f"{JOBS}/{job['id']}/artifacts")).json()["items"]
    return [item for item in items if item["kind"] != "input"]


async def _content(item: dict[str, Any]) -> bytes:
    async with httpx.AsyncClient(trust_env=False) as storage:
        return (await storage.get(item["url"])).content


async def test_files_are_committed_with_the_report(people: People, stage: Stage) -> None:
    """What is only stored is invisible until the report, and then all of it is there."""
    person = await people.make()
    job, spec = await stage.running(person)
    early = await stage.worker.upload(spec, name="early.glb")
    main, second = await _stored(stage, spec), await _stored(stage, spec, name="second.glb")
    assert [item["name"] for item in await _artifacts(person, job)] == ["early.glb"]

    assert (await _succeed(stage, spec, main, early, second)).json()["job_status"] == "SUCCEEDED"

    items = {item["name"]: item for item in await _artifacts(person, job)}
    assert set(items) == {"early.glb", "model.glb", "second.glb"}
    assert items["model.glb"]["id"] == main
    assert await _content(items["model.glb"]) == GLB
    events = (await person.client.get(f"{JOBS}/{job['id']}/events")).json()["items"]
    types = [event["type"] for event in events]
    assert types[-3:] == ["artifact.added", "artifact.added", "job.succeeded"]


async def test_repeat_with_files_is_replayed(people: People, stage: Stage) -> None:
    """The same report again, with more in its log, answers the same and writes nothing."""
    _, spec = await stage.running(await people.make())
    main = await _stored(stage, spec)
    assert (await _succeed(stage, spec, main, log=LOG)).json()["replayed"] is False
    async with nothing_written(stage.database):
        again = await _succeed(stage, spec, main, log=LOG + "one more line\n")
    assert again.json() == {"job_status": "SUCCEEDED", "replayed": True}


@pytest.mark.parametrize(
    ("ticket", "status", "code"),
    [
        ({"sha256": "0" * 64}, 422, "ARTIFACT_MISMATCH"),
        ({"size_bytes": len(GLB) + 1}, 422, "ARTIFACT_MISMATCH"),
    ],
)
async def test_damaged_file(
    people: People, stage: Stage, ticket: dict[str, Any], status: int, code: str
) -> None:
    """One bad file: nothing is written, the attempt runs on, and a repaired file is taken."""
    person = await people.make()
    job, spec = await stage.running(person)
    good, bad = await _stored(stage, spec), await _stored(stage, spec, name="bad.glb", **ticket)
    async with nothing_written(stage.database):
        answer = await _succeed(stage, spec, good, bad)
    assert "bad.glb" in assert_problem(answer, status, code)["detail"]
    assert await _artifacts(person, job) == []

    repaired = await _stored(stage, spec, name="bad.glb")
    assert (await _succeed(stage, spec, good, repaired)).json()["job_status"] == "SUCCEEDED"


async def test_file_that_was_never_sent(people: People, stage: Stage) -> None:
    """A ticket without an upload is no result."""
    _, spec = await stage.running(await people.make())
    ticket = (await stage.worker.ticket(spec)).json()["ticket_id"]
    async with nothing_written(stage.database):
        answer = await _succeed(stage, spec, ticket)
    assert_problem(answer, 409, "ARTIFACT_NOT_UPLOADED")


@pytest.mark.parametrize(
    "report",
    [
        {"outcome": "failed", "code": "BROKEN", "message": "it broke", "permanent": True},
        {"outcome": "succeeded"},
    ],
)
async def test_log(people: People, stage: Stage, report: dict[str, Any]) -> None:
    """A short log comes with the report, however it ended, and is a file like all others."""
    person = await people.make()
    job, spec = await stage.running(person)
    if report["outcome"] == "succeeded":
        report = {**report, "artifact_ids": [await _stored(stage, spec)]}
    assert (await stage.worker.call(spec, "finish", {**report, "log": LOG})).status_code == 200
    (item,) = [item for item in await _artifacts(person, job) if item["kind"] == "log"]
    assert (item["name"], item["media_type"]) == ("run.log", "text/plain")
    assert item["sha256"] == hashlib.sha256(LOG.encode()).hexdigest()
    assert await _content(item) == LOG.encode()


async def test_log_of_a_zombie(people: People, stage: Stage) -> None:
    """A report that comes too late leaves no log, in no list and no ticket."""
    person = await people.make()
    job, spec = await stage.running(person)
    assert (await person.client.delete(f"{JOBS}/{job['id']}")).status_code == 200
    assert (await stage.worker.call(spec, "finish", {"outcome": "cancelled"})).status_code == 200
    async with nothing_written(stage.database):
        answer = await stage.worker.call(
            spec, "finish", {"outcome": "released", "reason": "late", "log": LOG}
        )
    assert_problem(answer, 409, "REPORT_CONFLICT")
    assert await _artifacts(person, job) == []


async def test_long_log_is_refused(people: People, stage: Stage) -> None:
    """A log over the limit has to be uploaded."""
    _, spec = await stage.running(await people.make())
    report = {"outcome": "released", "reason": "x", "log": "x" * (SHORT_LOG + 1)}
    answer = await stage.worker.call(spec, "finish", report)
    assert_problem(answer, 422, "INVALID_REQUEST", pointer="/log")


async def test_storage_away(settings: Settings, people: People, stage: Stage) -> None:
    """Without storage a failure is still reported, but for its log; a success has to wait."""
    _, failing = await stage.running(await people.make())
    _, succeeding = await stage.running(await people.make())
    main = await _stored(stage, succeeding)
    failure = {"outcome": "failed", "code": "X", "message": "x", "permanent": True, "log": LOG}
    success = {"outcome": "succeeded", "artifact_ids": [main], "metrics": {}, "log": LOG}
    async with another_app(settings, minio_endpoint=f"http://127.0.0.1:{DEAD_PORT}") as client:
        client.headers["x-api-key"] = stage.worker.client.headers["x-api-key"]
        reported = await _finish(client, failing, failure)
        refused = await _finish(client, succeeding, success)
    assert reported.json()["job_status"] == "FAILED"
    assert_problem(refused, 503, "SERVICE_UNAVAILABLE")
    assert (await _succeed(stage, succeeding, main)).json()["job_status"] == "SUCCEEDED"


async def test_log_of_a_run_with_too_many_files(people: People, stage: Stage) -> None:
    """Where no further file is accepted, the outcome counts without its log."""
    person = await people.make()
    job, spec = await stage.running(person)
    async with stage.database.transaction() as session:
        await session.execute(
            text(
                "INSERT INTO upload_tickets (id, user_id, attempt_id, object_key, kind, name,"
                " media_type, expires_at) SELECT gen_random_uuid(), user_id, :attempt, 'k' || n,"
                " 'preview', 'n' || n, 'image/png', now() FROM jobs, generate_series(1, 1000) n"
                " WHERE jobs.id = :job"
            ),
            {"attempt": spec.attempt_id, "job": spec.job_id},
        )
    report = {"outcome": "failed", "code": "X", "message": "x", "permanent": True, "log": LOG}
    answer = await stage.worker.call(spec, "finish", report)
    assert answer.json()["job_status"] == "FAILED"
    assert await _artifacts(person, job) == []


async def test_late_ticket_of_a_committed_file(people: People, stage: Stage) -> None:
    """A ticket that is written just after its file was committed lets nobody delete the file.

    The call has looked at everything and waits for the row; that it was committed in between is
    seen only when the row is written.
    """
    _, spec = await stage.running(await people.make())
    granted = (await stage.worker.ticket(spec)).json()
    await stage.worker.put(granted)
    async with stage.database.transaction() as session:
        await session.execute(
            text("SELECT FROM upload_tickets WHERE id = :id FOR UPDATE"),
            {"id": granted["ticket_id"]},
        )
        late = asyncio.create_task(stage.worker.ticket(spec))
        await until_blocked_or_done(stage.database, late)
        await session.execute(
            text("UPDATE upload_tickets SET keep_until = NULL WHERE id = :id"),
            {"id": granted["ticket_id"]},
        )
    assert (await late).status_code == 200
    async with stage.database.transaction() as session:
        kept = await session.execute(
            text("SELECT keep_until FROM upload_tickets WHERE id = :id"),
            {"id": granted["ticket_id"]},
        )
    assert kept.scalar_one() is None


async def test_promise_changed_while_it_is_checked(
    people: People, stage: Stage, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was checked is what is committed, not what the ticket says by then."""
    person = await people.make()
    job, spec = await stage.running(person)
    html = b"<html><script>alert(1)</script></html>"
    as_text = {"name": "model.glb", "kind": "log", "media_type": "text/plain"}
    granted = (await stage.worker.ticket(spec, html, **as_text)).json()
    await stage.worker.put(granted, html)
    read_start = store.read_start

    async def read_and_change(key: str, length: int) -> ObjectStart | None:
        found = await read_start(key, length)
        assert (await stage.worker.ticket(spec, html)).status_code == 200  # as a GLB
        return found

    monkeypatch.setattr(store, "read_start", read_and_change)
    answer = await _succeed(stage, spec, granted["ticket_id"])
    assert_problem(answer, 404, "TICKET_NOT_FOUND")
    assert await _artifacts(person, job) == []
