"""Repeating a request: one key, one job."""

import asyncio

import pytest

from app.db.session import Database
from tests.support.people import JOBS, People
from tests.support.problems import assert_problem
from tests.support.rows import count_rows

BODY = {"model_id": "dreamfusion-sd", "prompt": "a teapot"}
HEADERS = pytest.mark.parametrize("header", ["Idempotency-Key", "X-Idempotency-Key"])


@HEADERS
async def test_same_body_is_a_replay(people: People, database: Database, header: str) -> None:
    """The same key with the same body answers the same job, marked as a replay."""
    person = await people.make()
    first = await person.submit(**BODY, input_params={}, headers={header: "key-1"})
    second = await person.submit(**BODY, input_params={}, headers={header: "key-1"})
    assert (first.status_code, second.status_code) == (201, 201)
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert second.json() == first.json()
    assert second.headers["location"] == first.headers["location"]
    assert (await count_rows(database))["jobs"] == 1


async def test_order_of_members_does_not_matter(people: People, database: Database) -> None:
    """The same request written in another order is the same request."""
    person = await people.make()
    for body in (
        b'{"model_id":"dreamfusion-sd","prompt":"a","input_params":{"seed":1,"steps":200}}',
        b' {"input_params": {"steps": 200, "seed": 1}, "prompt": "a", "model_id":"dreamfusion-sd"}',
    ):
        headers = {"idempotency-key": "key-1", "content-type": "application/json"}
        answer = await person.client.post(f"{JOBS}/", content=body, headers=headers)
        assert answer.status_code == 201
    assert (await count_rows(database))["jobs"] == 1


async def test_other_body_is_refused(people: People, database: Database) -> None:
    """The same key with another body is refused, and makes nothing."""
    person = await people.make()
    headers = {"Idempotency-Key": "key-1"}
    await person.job(**BODY, input_params={}, headers=headers)
    answer = await person.submit(**BODY, input_params={"seed": 1}, headers=headers)
    assert_problem(answer, 422, "IDEMPOTENCY_KEY_REUSED")
    assert (await count_rows(database))["jobs"] == 1


async def test_both_headers_name_one_key(people: People, database: Database) -> None:
    """A key sent by one header is found by the other."""
    person = await people.make()
    first = await person.job(**BODY, input_params={}, headers={"Idempotency-Key": "key-1"})
    second = await person.job(**BODY, input_params={}, headers={"X-Idempotency-Key": "key-1"})
    assert first["id"] == second["id"]


async def test_keys_are_per_user(people: People) -> None:
    """Two users may draw the same key."""
    headers = {"Idempotency-Key": "key-1"}
    one = await (await people.make()).job(**BODY, input_params={}, headers=headers)
    other = await (await people.make()).job(**BODY, input_params={}, headers=headers)
    assert one["id"] != other["id"]


async def test_without_key_every_request_counts(people: People) -> None:
    """Without a key the same request twice makes two jobs."""
    person = await people.make()
    first = await person.job(**BODY, input_params={})
    assert (await person.job(**BODY, input_params={}))["id"] != first["id"]


async def test_failed_request_does_not_use_up_its_key(people: People) -> None:
    """A key whose request was refused can be used for the corrected one."""
    person = await people.make()
    headers = {"Idempotency-Key": "key-1"}
    refused = await person.submit(**BODY, input_params={"seed": -1}, headers=headers)
    assert refused.status_code == 422
    assert (await person.submit(**BODY, input_params={}, headers=headers)).status_code == 201


async def test_replay_shows_the_job_as_it_is(people: People) -> None:
    """A replay answers the job as it is by now."""
    person = await people.make()
    headers = {"Idempotency-Key": "key-1"}
    job = await person.job(**BODY, input_params={}, headers=headers)
    await person.client.post(f"{JOBS}/{job['id']}/cancel")
    replayed = await person.job(**BODY, input_params={}, headers=headers)
    assert (replayed["id"], replayed["status"]) == (job["id"], "CANCELLED")


async def test_ten_at_once_make_one_job(people: People, database: Database) -> None:
    """Ten requests with one key at the same time make exactly one job."""
    person = await people.make()
    headers = {"Idempotency-Key": "key-1"}
    answers = await asyncio.gather(
        *(person.submit(**BODY, input_params={}, headers=headers) for _ in range(10))
    )
    created = [answer for answer in answers if answer.status_code == 201]
    for answer in answers:
        if answer not in created:
            assert_problem(answer, 409, "IDEMPOTENCY_IN_FLIGHT")
    assert len({answer.json()["id"] for answer in created}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in created) == 1
    rows = await count_rows(database)
    assert (rows["jobs"], rows["job_events"]) == (1, 1)


@HEADERS
@pytest.mark.parametrize("key", ["", "x" * 256, "a b", b"\xff", "a\tb"])
async def test_impossible_keys(
    people: People, database: Database, header: str, key: str | bytes
) -> None:
    """A key that is empty, too long or not plain text is refused by the header's name."""
    person = await people.make()
    answer = await person.client.post(f"{JOBS}/", json=BODY, headers={header: key})
    assert_problem(answer, 422, "INVALID_REQUEST", pointer=f"/header/{header.lower()}")
    assert (await count_rows(database))["jobs"] == 0
