"""What a pipeline sees in its input: it appears among the job's events while the job runs."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from app.queueing.rescuer import rescue_lost_attempts
from app.queueing.retention import expire_jobs
from contract.attempts import ATTEMPT_TOKEN_HEADER, JobSpec
from contract.events import MOST_AT_ONCE, MOST_EVENTS
from tests.support.jobs import dispatch, end_lease, make_due
from tests.support.people import JOBS, People, Person
from tests.support.problems import assert_problem
from tests.support.rows import nothing_written
from tests.support.runs import Stage
from tests.support.worker import BASE


def _events(*numbers: int, kind: str = "zone.enter") -> list[dict[str, Any]]:
    return [{"sequence": n, "type": kind, "data": {"track_id": n}} for n in numbers]


async def _tell(stage: Stage, spec: JobSpec, events: list[dict[str, Any]]) -> httpx.Response:
    answer = await stage.worker.call(spec, "heartbeat", {"events": events})
    assert answer.status_code == 200, answer.text
    return answer


async def _seen(person: Person, job: dict[str, Any], query: str = "?type=zone.*") -> list[Any]:
    answer = await person.client.get(f"{JOBS}/{job['id']}/events{query}")
    assert answer.status_code == 200, answer.text
    items: list[Any] = answer.json()["items"]
    return items


async def test_seen_while_the_job_runs(people: People, stage: Stage) -> None:
    """Events are there at once, in order, with their data and their attempt."""
    person = await people.make()
    job, spec = await stage.running(person)
    data = {"zone": "Tür", "box": [0, 1.5, {"a": None}], "big": 10**40, "time_s": 1e-7}
    event = {"sequence": 1, "type": "zone.enter", "data": data}
    await _tell(
        stage, spec, [event, *_events(2, kind="track.start"), *_events(3, kind="zone.exit")]
    )
    assert (await person.get(job["id"]))["status"] == "RUNNING"
    first, last = await _seen(person, job)
    assert (first["type"], first["data"]) == ("zone.enter", data)
    assert first["attempt_id"] == str(spec.attempt_id)
    assert last["type"] == "zone.exit"
    [track] = await _seen(person, job, "?type=track.start")
    assert first["id"] < track["id"] < last["id"]


async def test_seen_in_the_live_stream(people: People, stage: Stage) -> None:
    """A stream that is open tells events as they come, and ends with the job."""
    person = await people.make()
    job, spec = await stage.running(person)
    types: list[str] = []

    async def read() -> None:
        headers = {"Accept": "text/event-stream"}
        url = f"{JOBS}/{job['id']}/events?type=zone.*"
        async with person.client.stream("GET", url, headers=headers) as answer:
            async for line in answer.aiter_lines():
                if line.startswith("event: "):
                    types.append(line.removeprefix("event: "))
                    if types == ["zone.enter"]:
                        await _tell(stage, spec, _events(2, kind="zone.exit"))
                    else:
                        assert (await stage.worker.succeed(spec)).status_code == 200

    async with asyncio.timeout(30):
        reading = asyncio.create_task(read())
        await _tell(stage, spec, _events(1))
        await reading
    assert types == ["zone.enter", "zone.exit"]


async def test_a_repeated_heartbeat_adds_nothing(people: People, stage: Stage) -> None:
    """After a lost answer the same events come again, perhaps with more: each is written once."""
    person = await people.make()
    job, spec = await stage.running(person)
    await _tell(stage, spec, _events(1, 2))
    async with nothing_written(stage.database):
        await _tell(stage, spec, _events(1, 2))
        await _tell(stage, spec, _events(1))
        await _tell(stage, spec, [])
    await _tell(stage, spec, _events(2, 3, 4))
    numbers = [event["data"]["track_id"] for event in await _seen(person, job)]
    assert numbers == [1, 2, 3, 4]


async def test_two_heartbeats_at_once(people: People, stage: Stage) -> None:
    """Heartbeats that overlap write each event once, in order."""
    person = await people.make()
    job, spec = await stage.running(person)
    every = _events(*range(1, 41))
    await asyncio.gather(*(_tell(stage, spec, every[:count]) for count in (40, 10, 40, 30, 20)))
    numbers = [event["data"]["track_id"] for event in await _seen(person, job)]
    assert numbers == list(range(1, 41))


async def test_no_more_than_the_limit(people: People, stage: Stage) -> None:
    """However much a worker tells, one attempt leaves so many events and no more."""
    person = await people.make()
    _, spec = await stage.running(person)
    for _ in range(2):
        for first in range(1, MOST_EVENTS + 2, MOST_AT_ONCE):
            last = min(first + MOST_AT_ONCE, MOST_EVENTS + 2)
            await _tell(stage, spec, _events(*range(first, last)))
    async with stage.database.transaction() as session:
        count = await session.scalar(
            text("SELECT count(*) FROM job_events WHERE attempt_id = :id AND type = 'zone.enter'"),
            {"id": spec.attempt_id},
        )
    assert count == MOST_EVENTS + 1


@pytest.mark.parametrize(
    ("event", "pointer"),
    [
        ('{"sequence": 1, "type": "job.succeeded", "data": {}}', "/events/0/type"),
        ('{"sequence": 1, "type": "artifact.added", "data": {}}', "/events/0/type"),
        ('{"sequence": 1, "type": "attempt.lost", "data": {}}', "/events/0/type"),
        ('{"sequence": 1, "type": "preview.added", "data": {}}', "/events/0/type"),
        ('{"sequence": 1, "type": "zone.enter\\nid: 9", "data": {}}', "/events/0/type"),
        ('{"sequence": 1, "type": "zone", "data": {}}', "/events/0/type"),
        ('{"sequence": 1, "type": null, "data": {}}', "/events/0/type"),
        ('{"sequence": 0, "type": "zone.enter", "data": {}}', "/events/0/sequence"),
        ('{"sequence": 10002, "type": "zone.enter", "data": {}}', "/events/0/sequence"),
        ('{"sequence": 1e30, "type": "zone.enter", "data": {}}', "/events/0/sequence"),
        ('{"sequence": 1, "type": "zone.enter", "data": []}', "/events/0/data"),
        ('{"sequence": 1, "type": "zone.enter", "data": {"a": NaN}}', "/events/0/data"),
        ('{"sequence": 1, "type": "zone.enter", "data": {"a": 1e999}}', "/events/0/data"),
        ('{"sequence": 1, "type": "zone.enter", "data": {"a": "\\u0000"}}', "/events/0/data"),
        ('{"sequence": 1, "type": "zone.enter", "data": {"\\ud800": 1}}', "/events/0/data"),
        (
            '{"sequence": 1, "type": "zone.enter", "data": {"a": %s}}' % ("[" * 9 + "]" * 9),
            "/events/0/data",
        ),
        (
            '{"sequence": 1, "type": "zone.enter", "data": {"a": "%s"}}' % ("x" * 4096),
            "/events/0/data",
        ),
        ('"zone.enter"', "/events/0"),
    ],
)
async def test_impossible_events(people: People, stage: Stage, event: str, pointer: str) -> None:
    """What cannot be an event is refused by its place, and the good ones beside it, too."""
    _, spec = await stage.running(await people.make())
    good = json.dumps(_events(MOST_EVENTS)[0])
    async with nothing_written(stage.database):
        answer = await stage.worker.client.post(
            f"{BASE}/attempts/{spec.attempt_id}/heartbeat",
            content=f'{{"events": [{event}, {good}]}}'.encode(),
            headers={ATTEMPT_TOKEN_HEADER: spec.attempt_token, "content-type": "application/json"},
        )
    assert_problem(answer, 422, "INVALID_REQUEST", pointer=pointer)


async def test_too_many_at_once(people: People, stage: Stage) -> None:
    """A list that is too long, or not in order, is refused as a whole."""
    _, spec = await stage.running(await people.make())
    for numbers in (range(1, MOST_AT_ONCE + 2), (2, 1), (1, 1)):
        async with nothing_written(stage.database):
            answer = await stage.worker.call(spec, "heartbeat", {"events": _events(*numbers)})
        assert_problem(answer, 422, "INVALID_REQUEST", pointer="/events")


async def test_another_attempts_events(people: People, stage: Stage) -> None:
    """The next attempt counts from one; what a lost one tells too late is refused."""
    person = await people.make()
    job, lost = await stage.running(person)
    await _tell(stage, lost, _events(1, 2))
    await end_lease(stage.database, lost.attempt_id)
    assert await rescue_lost_attempts(stage.database, stage.dispatcher._settings) == 1
    await make_due(stage.database, job["id"])
    attempt = await dispatch(stage.database, stage.dispatcher, job["id"])
    spec = await stage.worker.start(attempt)
    async with nothing_written(stage.database):
        answer = await stage.worker.call(lost, "heartbeat", {"events": _events(3)})
    assert_problem(answer, 409, "ATTEMPT_SUPERSEDED")
    await _tell(stage, spec, _events(1))
    attempts = [event["attempt_id"] for event in await _seen(person, job)]
    assert attempts == [str(lost.attempt_id)] * 2 + [str(spec.attempt_id)]


async def test_forgotten_with_the_files(people: People, stage: Stage) -> None:
    """When a job expires, what was seen in its files goes, and its life cycle stays."""
    person = await people.make()
    job, spec = await stage.running(person)
    await _tell(stage, spec, _events(1, 2))
    assert (await stage.worker.succeed(spec)).status_code == 200
    async with stage.database.transaction() as session:
        await session.execute(text("UPDATE jobs SET expires_at = now() - interval '1 s'"))
    assert await expire_jobs(stage.database) >= 1
    assert await _seen(person, job) == []
    types = [event["type"] for event in await _seen(person, job, "")]
    assert types[-1] == "job.expired"
    assert "job.succeeded" in types
