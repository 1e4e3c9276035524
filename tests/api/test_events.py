"""A job's events, as a list and as a live stream."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from app.accounts import authenticator
from app.accounts.roles import Role
from app.jobs.repository import record_event
from tests.support.people import AUTH, JOBS, People, Person
from tests.support.problems import assert_problem
from tests.support.runs import Stage

STREAM = {"Accept": "text/event-stream"}
COURSE = ["job.created", "job.dispatched", "job.started", "artifact.added", "job.succeeded"]

Event = tuple[int | None, str, dict[str, Any]]


async def _events(answer: httpx.Response) -> AsyncIterator[Event]:
    """The events of a stream: id, type and data."""
    fields: dict[str, str] = {}
    async for line in answer.aiter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            number = int(fields["id"]) if "id" in fields else None
            yield number, fields["event"], json.loads(fields["data"])
            fields = {}


async def _whole_stream(
    person: Person, job: dict[str, Any], query: str = "", **headers: str
) -> list[Event]:
    url = f"{JOBS}/{job['id']}/events{query}"
    async with (
        asyncio.timeout(40),
        person.client.stream("GET", url, headers=STREAM | headers) as answer,
    ):
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-cache"
        return [event async for event in _events(answer)]


async def test_list(people: People, stage: Stage) -> None:
    """Events are listed in order, each with an id, a time and what happened."""
    person = await people.make()
    job = await stage.succeeded(person)
    items = (await person.client.get(f"{JOBS}/{job['id']}/events")).json()["items"]
    assert [event["type"] for event in items] == COURSE
    ids = [event["id"] for event in items]
    assert ids == sorted(set(ids))
    assert all(event["created_at"].endswith("Z") for event in items)
    assert items[-1]["data"] == {"status": "SUCCEEDED", "artifacts": 1}
    assert items[0]["attempt_id"] is None
    assert items[2]["attempt_id"] is not None


@pytest.mark.parametrize(
    ("query", "types"),
    [
        ("?type=job.*", ["job.created", "job.dispatched", "job.started", "job.succeeded"]),
        ("?type=artifact.*", ["artifact.added"]),
        ("?type=job.started", ["job.started"]),
        ("?type=zone.*", []),
        ("?limit=2", COURSE[:2]),
    ],
)
async def test_filters(people: People, stage: Stage, query: str, types: list[str]) -> None:
    """Events can be chosen by type, by its beginning, and some at a time."""
    person = await people.make()
    job = await stage.succeeded(person)
    items = (await person.client.get(f"{JOBS}/{job['id']}/events{query}")).json()["items"]
    assert [event["type"] for event in items] == types


async def test_type_without_star_is_exact(people: People, stage: Stage) -> None:
    """A type without a star is that type alone, and an underscore in it is no wildcard."""
    person = await people.make()
    job = await person.job()
    async with stage.database.transaction() as session:
        for event_type in ("zone.enter", "zone.entered", "zone.enter_again", "zone.enterXagain"):
            await record_event(session, job["id"], event_type)

    async def types(query: str) -> list[str]:
        answer = await person.client.get(f"{JOBS}/{job['id']}/events?type={query}")
        return [event["type"] for event in answer.json()["items"]]

    assert await types("zone.enter") == ["zone.enter"]
    assert await types("zone.enter_*") == ["zone.enter_again"]


async def test_paging(people: People, stage: Stage) -> None:
    """The list goes on after a known event."""
    person = await people.make()
    job = await stage.succeeded(person)
    url = f"{JOBS}/{job['id']}/events"
    first = (await person.client.get(f"{url}?limit=2")).json()["items"]
    rest = (await person.client.get(f"{url}?after={first[-1]['id']}")).json()["items"]
    assert [event["type"] for event in first + rest] == COURSE


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("type=%00", "/query/type"),
        ("type=*", "/query/type"),
        ("type=a*b", "/query/type"),
        ("type=JOB", "/query/type"),
        ("type=" + "a" * 65, "/query/type"),
        ("after=-1", "/query/after"),
        ("after=9223372036854775808", "/query/after"),
        ("limit=0", "/query/limit"),
        ("limit=1001", "/query/limit"),
    ],
)
async def test_bad_queries(admin: httpx.AsyncClient, query: str, pointer: str) -> None:
    """A parameter that makes no sense is named."""
    answer = await admin.get(f"{JOBS}/{uuid4()}/events?{query}")
    assert_problem(answer, 422, "INVALID_REQUEST", pointer=pointer)


@pytest.mark.parametrize("value", ["x", "-1", "1" * 19, "1.5", "٣"])
async def test_bad_last_event_id(admin: httpx.AsyncClient, value: str) -> None:
    """A Last-Event-ID that was never an event's is refused."""
    headers = STREAM | {"Last-Event-ID": value}
    answer = await admin.get(
        f"{JOBS}/{uuid4()}/events", headers={k: v.encode() for k, v in headers.items()}
    )
    assert_problem(answer, 422, "INVALID_REQUEST", pointer="/header/last-event-id")


async def test_stream_is_live(people: People, stage: Stage) -> None:
    """A stream that was opened early tells everything as it happens, and ends with the job."""
    person = await people.make()
    job = await person.job()
    async with (
        asyncio.timeout(40),
        person.client.stream("GET", f"{JOBS}/{job['id']}/events", headers=STREAM) as answer,
    ):
        stream = _events(answer)
        assert (await anext(stream))[1] == "job.created"
        number, event_type, data = await anext(stream)
        assert (number, event_type, data["status"]) == (None, "job.progress", "QUEUED")
        spec = await stage.start(job)
        seen = []
        async for _, event_type, data in stream:
            seen.append(event_type)
            if event_type == "job.progress" and data["status"] == "RUNNING":
                break
        assert "job.started" in seen
        progress = {"percent": 42.5, "stage": "texture", "message": "Filling"}
        await stage.worker.call(spec, "heartbeat", {"progress": progress})
        assert await anext(stream) == (
            None,
            "job.progress",
            {
                "status": "RUNNING",
                "progress_percent": 42.5,
                "stage": "texture",
                "message": "Filling",
            },
        )
        await stage.worker.succeed(spec)
        rest = [event async for event in stream]
    assert rest[-1][1] == "job.succeeded"
    assert "artifact.added" in [event_type for _, event_type, _ in rest]


@pytest.mark.parametrize("how", ["key", "log-out", "deactivated"])
async def test_stream_ends_with_the_right_to_it(
    people: People, http: httpx.AsyncClient, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is shut out hears no more of a job, on a stream that is open already."""
    monkeypatch.setattr(authenticator, "CACHE_SECONDS", 3600.0)
    person, admin = await people.make(), await people.make(role=Role.ADMIN)
    job = await person.job(model_id="dreamfusion-sd", input_params={}, prompt="a teapot")
    key, tokens = await person.another_key(), await person.log_in()
    bearer = {"authorization": f"Bearer {tokens['access_token']}"}
    shown = bearer if how == "log-out" else {"x-api-key": key["key"]}
    url = f"{JOBS}/{job['id']}/events"
    async with (
        asyncio.timeout(40),
        http.stream("GET", url, headers=STREAM | shown) as answer,
    ):
        stream = _events(answer)
        assert (await anext(stream))[1] == "job.created"
        assert (await anext(stream))[1] == "job.progress"
        if how == "key":
            assert (await person.client.delete(f"/api/v1/keys/{key['id']}")).status_code == 204
        elif how == "log-out":
            assert (await http.post(f"{AUTH}/logout", headers=bearer)).status_code == 204
        else:
            body = {"is_active": False}
            await admin.client.patch(f"/api/v1/users/{person.id}", json=body)
        rest = [event async for event in stream]
    assert rest == []
    assert_problem(await http.get(url, headers=shown), 401, "NOT_AUTHENTICATED")


async def test_stream_of_an_ended_job(people: People, stage: Stage) -> None:
    """The stream of a job that has ended replays its events from the table and ends."""
    person = await people.make()
    job = await stage.succeeded(person)
    events = await _whole_stream(person, job)
    assert [event_type for _, event_type, _ in events] == COURSE
    listed = (await person.client.get(f"{JOBS}/{job['id']}/events")).json()["items"]
    assert [data for _, _, data in events] == listed
    assert [number for number, _, _ in events] == [event["id"] for event in listed]


async def test_stream_goes_on_after_the_last_event(people: People, stage: Stage) -> None:
    """A client that comes back with Last-Event-ID gets what it missed, once."""
    person = await people.make()
    job = await stage.succeeded(person)
    events = await _whole_stream(person, job)
    for place, (number, _, _) in enumerate(events):
        again = await _whole_stream(person, job, **{"Last-Event-ID": str(number)})
        assert again == events[place + 1 :]
    after = await _whole_stream(person, job, f"?after={events[2][0]}")
    assert after == events[3:]


async def test_stream_of_one_type(people: People, stage: Stage) -> None:
    """A stream can be of one type alone, and has no progress then."""
    person = await people.make()
    job = await stage.succeeded(person)
    events = await _whole_stream(person, job, "?type=artifact.*")
    assert [event_type for _, event_type, _ in events] == ["artifact.added"]


async def test_long_history_is_replayed_whole(people: People, stage: Stage) -> None:
    """A replay of more events than are read at once has no gap."""
    person = await people.make()
    job = await person.job()
    async with stage.database.transaction() as session:
        for number in range(450):
            await record_event(session, job["id"], "zone.enter", data={"number": number})
    await person.client.post(f"{JOBS}/{job['id']}/cancel")
    events = await _whole_stream(person, job, "?type=zone.*")
    assert [data["data"]["number"] for _, _, data in events] == list(range(450))


async def test_stream_needs_the_right_to_read(people: People) -> None:
    """A stream of a job that one may not read is refused before it begins."""
    job = await (await people.make()).job()
    colleague = await people.make()
    stranger = await people.make(organisation="Globex")
    url = f"{JOBS}/{job['id']}/events"
    assert_problem(await colleague.client.get(url, headers=STREAM), 403, "FORBIDDEN")
    assert_problem(await stranger.client.get(url, headers=STREAM), 404, "JOB_NOT_FOUND")
