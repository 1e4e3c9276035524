"""Listing jobs: pages without gaps, filters, and numbers over them."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import delete

from app.accounts.roles import Role
from app.db.base import first_id_at
from app.jobs.tables import JobEvent
from tests.support.jobs import set_job
from tests.support.people import JOBS, People, Person
from tests.support.problems import assert_problem
from tests.support.runs import Stage

TEXT_JOB: dict[str, Any] = {
    "model_id": "dreamfusion-sd",
    "input_params": {},
    "prompt": "a teapot",
}


async def _page(person: Person, **params: Any) -> dict[str, Any]:
    answer = await person.client.get(f"{JOBS}/", params=params)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def _ids(person: Person, **params: Any) -> list[str]:
    return [job["id"] for job in (await _page(person, **params))["items"]]


async def test_newest_first(people: People) -> None:
    """Jobs are listed newest first, all on one page while they fit."""
    person = await people.make()
    made = [(await person.job(**TEXT_JOB))["id"] for _ in range(3)]
    page = await _page(person)
    assert [job["id"] for job in page["items"]] == made[::-1]
    assert page["next_cursor"] is None


async def test_nobody_has_jobs_at_first(people: People) -> None:
    """A new user's list is empty."""
    assert await _page(await people.make()) == {"items": [], "next_cursor": None}


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
async def test_pages_have_no_gaps_while_jobs_appear(people: People, limit: int) -> None:
    """Walking the pages meets each job once, though new ones appear with every step."""
    person = await people.make()
    made = [(await person.job(**TEXT_JOB))["id"] for _ in range(7)]
    seen: list[str] = []
    cursor: str | None = None
    for _ in made:
        params = {"limit": limit} | ({"cursor": cursor} if cursor else {})
        page = await _page(person, **params)
        assert len(page["items"]) <= limit
        seen += [job["id"] for job in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        await person.job(**TEXT_JOB)
    assert cursor is None
    assert seen == made[::-1]


async def test_filters(people: People, stage: Stage) -> None:
    """Status, model, user and time each choose, alone and together."""
    person = await people.make(role=Role.ADMIN)
    colleague = await people.make()
    done = (await stage.succeeded(person))["id"]
    waiting = (await person.job(**TEXT_JOB))["id"]
    theirs = (await colleague.job(**TEXT_JOB))["id"]
    assert await _ids(person) == [theirs, waiting, done]
    assert await _ids(person, status="SUCCEEDED") == [done]
    assert await _ids(person, status=["SUCCEEDED", "QUEUED"]) == [theirs, waiting, done]
    assert await _ids(person, status="EXPIRED") == []
    assert await _ids(person, model_id="inflate-v1") == [done]
    assert await _ids(person, model_id="no-such-model") == []
    assert await _ids(person, requested_by=str(person.id)) == [waiting, done]
    assert await _ids(person, requested_by=str(uuid4())) == []
    assert await _ids(person, requested_by=str(person.id), status="QUEUED") == [waiting]


async def test_times(people: People, stage: Stage) -> None:
    """Jobs can be chosen by when they were created, in any zone; without one it is UTC."""
    person = await people.make()
    made, new = (await person.job(**TEXT_JOB))["id"], (await person.job(**TEXT_JOB))["id"]
    moment = datetime(2020, 5, 1, 12, tzinfo=UTC)
    old = str(first_id_at(moment))  # an id has the time of its making, too
    async with stage.database.transaction() as session:
        await session.execute(delete(JobEvent).where(JobEvent.job_id == UUID(made)))
    await set_job(stage.database, made, id=UUID(old), created_at=moment)
    assert await _ids(person, created_before="2020-05-01T12:00:01Z") == [old]
    assert await _ids(person, created_before="2020-05-01T14:00:01+02:00") == [old]
    assert await _ids(person, created_before="2020-05-01T12:00:01") == [old]
    assert await _ids(person, created_before="2020-05-01T12:00:00Z") == []
    assert await _ids(person, created_after="2020-05-01T12:00:00Z") == [new]
    assert await _ids(person, created_after="2020-05-01T11:59:59Z") == [new, old]
    assert await _ids(person, created_after="2020-01-01", created_before="2021-01-01") == [old]


async def test_filters_hold_on_every_page(people: People) -> None:
    """A filter goes together with a cursor."""
    person = await people.make()
    kept = []
    for number in range(6):
        job = await person.job(**TEXT_JOB)
        if number % 2:
            await person.client.post(f"{JOBS}/{job['id']}/cancel")
        else:
            kept.append(job["id"])
    first = await _page(person, status="QUEUED", limit=2)
    second = await _page(person, status="QUEUED", limit=2, cursor=first["next_cursor"])
    assert [job["id"] for job in first["items"] + second["items"]] == kept[::-1]
    assert second["next_cursor"] is None


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("limit=0", "/query/limit"),
        ("limit=-1", "/query/limit"),
        ("limit=101", "/query/limit"),
        ("limit=" + "9" * 5000, "/query/limit"),
        ("limit=many", "/query/limit"),
        ("limit=1.5", "/query/limit"),
        ("cursor=" + "x" * 65, "/query/cursor"),
        ("cursor=!!", None),
        ("cursor=", None),
        ("cursor=abc", None),
        ("cursor=%00", None),
        ("cursor=%ff", None),
        ("cursor=" + "A" * 23, None),
        ("status=DONE", "/query/status/0"),
        ("status=queued", "/query/status/0"),
        ("status=QUEUED&status=", "/query/status/1"),
        ("model_id=%00", "/query/model_id"),
        ("requested_by=me", "/query/requested_by"),
        ("created_after=garbage", "/query/created_after"),
        ("created_after=", "/query/created_after"),
        ("created_after=1e300", "/query/created_after"),
        ("created_after=NaN", "/query/created_after"),
        ("created_after=2020-13-01T00:00:00Z", "/query/created_after"),
        ("created_after=0001-01-01T00:00:00%2B14:00", "/query/created_after"),
        ("created_before=9999-12-31T23:59:59-14:00", "/query/created_before"),
        ("unknown=1", "/query/unknown"),
    ],
)
async def test_bad_queries(admin: httpx.AsyncClient, query: str, pointer: str | None) -> None:
    """A parameter that makes no sense, or is not known, is named."""
    answer = await admin.get(f"{JOBS}/?{query}")
    body = assert_problem(answer, 422, "INVALID_REQUEST", pointer=pointer)
    assert pointer is not None or "cursor" in body["detail"]


@pytest.mark.parametrize(
    "query", ["created_after=0001-01-01T00:00:00Z", "created_before=9999-12-31T23:59:59Z"]
)
async def test_ends_of_the_calendar(admin: httpx.AsyncClient, query: str) -> None:
    """The first and last moments that can be written are times like any other."""
    assert (await admin.get(f"{JOBS}/?{query}")).status_code == 200


async def test_metrics(people: People, stage: Stage) -> None:
    """Counts by status, waits, run times and throughput of one's own jobs."""
    person = await people.make()
    await stage.succeeded(person)
    await stage.failed(person)
    await person.job(**TEXT_JOB)
    answer = await person.client.get(f"{JOBS}/metrics")
    assert answer.status_code == 200
    body = answer.json()
    assert body["window_hours"] == 24
    assert body["by_status"] == {
        "QUEUED": 1,
        "RUNNING": 0,
        "SUCCEEDED": 1,
        "FAILED": 1,
        "CANCELLED": 0,
        "EXPIRED": 0,
    }
    assert (body["completed"], body["completed_per_hour"]) == (1, round(1 / 24, 3))
    for durations in (body["wait_seconds"], body["run_seconds"]):
        assert 0 <= durations["p50"] <= durations["p95"]


async def test_metrics_of_nothing(people: People) -> None:
    """Without jobs there are zeros and no times."""
    body = (await (await people.make()).client.get(f"{JOBS}/metrics")).json()
    assert set(body["by_status"].values()) == {0}
    assert body["wait_seconds"] == body["run_seconds"] == {"p50": None, "p95": None}


async def test_metrics_have_a_window_and_a_scope(people: People, stage: Stage) -> None:
    """Older jobs do not count, nor those of others that one may not read."""
    admin, operator = await people.make(role=Role.ADMIN), await people.make()
    stranger = await people.make(organisation="Globex", role=Role.ADMIN)
    job = await admin.job(**TEXT_JOB)
    await operator.job(**TEXT_JOB)
    await set_job(stage.database, job["id"], created_at=datetime.now(UTC) - timedelta(hours=30))

    async def queued(person: Person, hours: int) -> int:
        answer = await person.client.get(f"{JOBS}/metrics", params={"window_hours": hours})
        return int(answer.json()["by_status"]["QUEUED"])

    assert [await queued(admin, hours) for hours in (24, 48)] == [1, 2]
    assert [await queued(operator, hours) for hours in (24, 48)] == [1, 1]
    assert await queued(stranger, 48) == 0


@pytest.mark.parametrize("hours", ["0", "-1", "2161", "x", "9" * 400])
async def test_bad_windows(admin: httpx.AsyncClient, hours: str) -> None:
    """A window must be between an hour and ninety days."""
    answer = await admin.get(f"{JOBS}/metrics?window_hours={hours}")
    assert_problem(answer, 422, "INVALID_REQUEST", pointer="/query/window_hours")
