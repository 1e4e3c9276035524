"""Plain creates are answered past the framework, just as the route would."""

import json
from typing import Any

import httpx
import pytest

from app.accounts.roles import Role
from app.db.session import Database
from tests.support.people import JOBS, People, Person
from tests.support.rows import count_rows

GOOD = {"model_id": "dreamfusion-sd", "prompt": "a teapot", "input_params": {"seed": 1}}
_CHANGING = {
    "date",
    "x-request-id",
    "x-response-time-ms",
    "ratelimit",
    "location",
    "content-length",
}
_NEW = {"id", "created_at", "request_id", "requested_by"}


def _seen(answer: httpx.Response) -> Any:
    """All that two answers to the same request have in common."""
    headers = {k: v for k, v in answer.headers.items() if k not in _CHANGING}
    body = {k: v for k, v in answer.json().items() if k not in _NEW}
    return answer.status_code, headers, body


async def _both(person: Person, **request: Any) -> tuple[httpx.Response, httpx.Response]:
    """The answers to a request sent plainly, and so that the route is asked."""
    return (
        await person.client.post(f"{JOBS}/", **request),
        await person.client.post(f"{JOBS}/?require_worker=false", **request),
    )


@pytest.mark.parametrize(
    "body",
    [
        GOOD,
        {**GOOD, "input_params": {}},
        {**GOOD, "model_id": "none-such"},
        {**GOOD, "model_id": "nul\x00"},
        {**GOOD, "prompt": ""},
        {**GOOD, "prompt": "\x00"},
        {**GOOD, "input_params": {"seed": -1, "nonsense": 1}},
        {**GOOD, "input_params": {"seed": 1 << 70}},
        {**GOOD, "input_params": {"seed": float("nan")}},
        {**GOOD, "extra": 1},
        {**GOOD, "model_id": 7},
        {"model_id": "inflate-v1", "input_params": {}},
        {"model_id": "inflate-v1", "input_params": {"image_path": "uploads/a/b/c.png"}},
        [],
        None,
        "text",
    ],
    ids=str,
)
async def test_same_answer_to_a_body(people: People, body: Any) -> None:
    """Whatever is asked for, the answer is that of the route."""
    person = await people.make()
    plain, routed = await _both(
        person, content=json.dumps(body), headers={"content-type": "application/json"}
    )
    assert _seen(plain) == _seen(routed)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"model_id": 1e400}', b"[" * 20])
async def test_same_answer_to_what_is_no_json(people: People, content: bytes) -> None:
    """What cannot be read is refused as the route does."""
    headers = {"content-type": "application/json"}
    plain, routed = await _both(await people.make(), content=content, headers=headers)
    assert _seen(plain) == _seen(routed)


@pytest.mark.parametrize("key", ["", "nobody's", "p3d_user_x", "test-worker-key"])
async def test_same_answer_to_a_key(people: People, key: str) -> None:
    """Who may not create learns the same."""
    plain, routed = await _both(await people.make(), json=GOOD, headers={"x-api-key": key})
    assert _seen(plain) == _seen(routed)
    assert plain.status_code in {401, 403}


async def test_same_answer_to_a_viewer(people: People) -> None:
    """A role that may not create is refused as the route does."""
    plain, routed = await _both(await people.make(role=Role.VIEWER), json=GOOD)
    assert _seen(plain) == _seen(routed)
    assert plain.status_code == 403


async def test_one_key_either_way(people: People, database: Database) -> None:
    """A job created one way is replayed the other way, and a changed body refused."""
    person = await people.make()
    headers = {"Idempotency-Key": "key-1"}
    plain, routed = await _both(person, json=GOOD, headers=headers)
    assert plain.json() == routed.json()
    assert routed.headers["idempotency-replayed"] == "true"
    assert plain.headers["location"] == routed.headers["location"]
    again, again_routed = await _both(person, json=GOOD, headers=headers)
    assert _seen(again) == _seen(again_routed)
    other, other_routed = await _both(person, json={**GOOD, "prompt": "b"}, headers=headers)
    assert _seen(other) == _seen(other_routed)
    assert other.status_code == 422
    assert (await count_rows(database))["jobs"] == 1
