"""Bodies that nobody means well: each gets a clear answer, and nothing is written."""

import json
from uuid import uuid4

import httpx
import pytest

from app.db.session import Database
from tests.support.people import JOBS, People
from tests.support.problems import assert_problem
from tests.support.rows import nothing_written

JSON = {"content-type": "application/json"}
TARGETS = [f"{JOBS}/", f"{JOBS}/validate", f"{JOBS}/upload-ticket"]


def _params(text: bytes) -> bytes:
    return b'{"model_id": "dreamfusion-sd", "prompt": "x", "input_params": ' + text + b"}"


BODIES = [
    pytest.param(b"", 422, "INVALID_REQUEST", id="empty"),
    pytest.param(b"[]", 422, "INVALID_REQUEST", id="array"),
    pytest.param(b"null", 422, "INVALID_REQUEST", id="null"),
    pytest.param(b'"text"', 422, "INVALID_REQUEST", id="text"),
    pytest.param(b"1", 422, "INVALID_REQUEST", id="number"),
    pytest.param(b"{}", 422, "INVALID_REQUEST", id="nothing in it"),
    pytest.param(b'{"model_id":', 400, "INVALID_JSON", id="cut off"),
    pytest.param(b"{} {}", 400, "INVALID_JSON", id="two values"),
    pytest.param(b"{'a': 1}", 400, "INVALID_JSON", id="python"),
    pytest.param(b"<html>", 400, "INVALID_JSON", id="html"),
    pytest.param(b'{"model_id": "\xff\xfe"}', 400, "INVALID_JSON", id="not utf-8"),
    pytest.param(b'{"a": "\x00"}', 400, "INVALID_JSON", id="raw NUL"),
    pytest.param('{"a": 1}'.encode("utf-16"), 400, "INVALID_JSON", id="utf-16"),
    pytest.param('{"a": 1}'.encode("utf-32-le"), 400, "INVALID_JSON", id="utf-32"),
    pytest.param(b"1" * 5000, 400, "INVALID_JSON", id="5000 digits"),
    pytest.param(b"[" * 33 + b"]" * 33, 413, "BODY_TOO_LARGE", id="33 deep"),
    pytest.param(b"[" * 500_000, 413, "BODY_TOO_LARGE", id="half a million deep"),
    pytest.param(b'{"a":' * 100_000, 413, "BODY_TOO_LARGE", id="deep objects"),
    pytest.param(b"[" + b"0," * 999_999 + b"0]", 413, "BODY_TOO_LARGE", id="million items"),
    pytest.param(b" " * (1 << 20) + b"{}", 413, "BODY_TOO_LARGE", id="just over a megabyte"),
    pytest.param(b"x" * 10_000_000, 413, "BODY_TOO_LARGE", id="10 megabytes"),
    pytest.param(b'"' + b'\\"' * 100_000, 400, "INVALID_JSON", id="string without end"),
    pytest.param(b'{"\\ud800": 1}', 422, "INVALID_REQUEST", id="lone surrogate as a name"),
    pytest.param(
        json.dumps({str(number): 0 for number in range(20_000)}).encode(),
        422,
        "INVALID_REQUEST",
        id="unknown names",
    ),
]


@pytest.mark.parametrize("path", TARGETS)
@pytest.mark.parametrize(("body", "status", "code"), BODIES)
async def test_hostile_bodies(
    admin: httpx.AsyncClient, path: str, body: bytes, status: int, code: str
) -> None:
    """Whatever the body, the answer is a problem that says what is wrong with it."""
    answer = await admin.post(path, content=body, headers=JSON)
    problem = assert_problem(answer, status, code)
    assert len(answer.content) < 20_000, "an answer does not repeat a huge body"
    assert not problem["detail"].startswith("/:")


@pytest.mark.parametrize(("body", "status", "code"), BODIES)
async def test_hostile_bodies_of_workers(
    worker_client: httpx.AsyncClient, body: bytes, status: int, code: str
) -> None:
    """The worker's routes answer the same bodies as clearly."""
    for path in ("workers/heartbeat", f"attempts/{uuid4()}/finish", f"attempts/{uuid4()}/claim"):
        answer = await worker_client.post(
            f"/worker/v1/{path}", content=body, headers=JSON | {"X-Attempt-Token": "x"}
        )
        assert_problem(answer, status, code)


@pytest.mark.parametrize(
    ("text", "pointer"),
    [
        (b'{"seed": NaN}', "/input_params/seed"),
        (b'{"guidance_scale": Infinity}', "/input_params/guidance_scale"),
        (b'{"guidance_scale": -Infinity}', "/input_params/guidance_scale"),
        (b'{"guidance_scale": 1e999}', "/input_params/guidance_scale"),
        (b'{"seed": 1' + b"0" * 30 + b"}", "/input_params/seed"),
        (b'{"seed": 1' + b"0" * 4000 + b"}", "/input_params/seed"),
        (b'{"negative_prompt": "\\u0000"}', "/input_params/negative_prompt"),
        (b'{"negative_prompt": "\\ud800"}', "/input_params/negative_prompt"),
        (b'{"\\ud800": 1}', "/input_params"),
        (b'{"a\\u0000b": 1}', "/input_params"),
        (b'{"deep": {"list": [0, NaN]}}', "/input_params/deep/list/1"),
        (b'{"seed": [' + b"0," * 100_000 + b"0]}", "/input_params"),
        (b'{"negative_prompt": "' + b"x" * 200_000 + b'"}', "/input_params/negative_prompt"),
    ],
)
@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "some-key"}], ids=["", "with key"])
async def test_values_that_no_database_holds(
    admin: httpx.AsyncClient,
    raw_database: Database,
    text: bytes,
    pointer: str,
    headers: dict[str, str],
) -> None:
    """Numbers and text that cannot be stored are named by their place, with or without a key."""
    async with nothing_written(raw_database):
        answer = await admin.post(f"{JOBS}/", content=_params(text), headers=JSON | headers)
    assert_problem(answer, 422, "INVALID_PARAMETERS", pointer=pointer)


async def test_number_of_five_thousand_digits(admin: httpx.AsyncClient) -> None:
    """A number longer than can be read makes the body unreadable, which is not our error."""
    answer = await admin.post(
        f"{JOBS}/", content=_params(b'{"seed": 1' + b"0" * 5000 + b"}"), headers=JSON
    )
    assert_problem(answer, 400, "INVALID_JSON")


@pytest.mark.parametrize(
    ("member", "pointer"),
    [
        (b'"model_id": "\\ud800"', "/model_id"),
        (b'"model_id": "\\u0000"', "/model_id"),
        (b'"model_id": ""', "/model_id"),
        (b'"model_id": 1' + b"0" * 4000, "/model_id"),
        (b'"model_id": ["inflate-v1"]', "/model_id"),
        (b'"model_id": "' + b"x" * 101 + b'"', "/model_id"),
        (b'"prompt": "\\ud800"', "/prompt"),
        (b'"prompt": "a\\u0000b"', "/prompt"),
        (b'"prompt": "' + b"x" * 2001 + b'"', "/prompt"),
        (b'"prompt": 1', "/prompt"),
        (b'"input_params": null', "/input_params"),
        (b'"input_params": []', "/input_params"),
        (b'"input_params": "{}"', "/input_params"),
        (b'"webhook": "http://169.254.169.254/"', "/webhook"),
        (b'"status": "SUCCEEDED"', "/status"),
    ],
)
@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "some-key"}], ids=["", "with key"])
async def test_members_of_the_wrong_form(
    admin: httpx.AsyncClient,
    raw_database: Database,
    member: bytes,
    pointer: str,
    headers: dict[str, str],
) -> None:
    """A member of the wrong type, form or name is named by its place."""
    body = b'{"model_id": "dreamfusion-sd", "prompt": "x", ' + member + b"}"
    async with nothing_written(raw_database):
        answer = await admin.post(f"{JOBS}/", content=body, headers=JSON | headers)
    assert_problem(answer, 422, "INVALID_REQUEST", pointer=pointer)


async def test_last_of_duplicate_names_counts(people: People) -> None:
    """Of two members of one name the last counts, as JSON readers do, and is checked as such."""
    person = await people.make()
    twice = b'{"model_id": "nothing", "model_id": "dreamfusion-sd", "prompt": "x"}'
    answer = await person.client.post(f"{JOBS}/validate", content=twice, headers=JSON)
    assert answer.status_code == 200
    swapped = b'{"model_id": "dreamfusion-sd", "model_id": "nothing", "prompt": "x"}'
    answer = await person.client.post(f"{JOBS}/validate", content=swapped, headers=JSON)
    assert_problem(answer, 404, "MODEL_NOT_FOUND")


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"],
)
@pytest.mark.parametrize("path", TARGETS)
async def test_wrong_content_type(
    admin: httpx.AsyncClient, raw_database: Database, path: str, content_type: str
) -> None:
    """A body that is not declared as JSON is refused, with what to send."""
    body = b'{"model_id": "dreamfusion-sd", "prompt": "a teapot"}'
    headers = {"content-type": content_type} if content_type else {}
    async with nothing_written(raw_database):
        answer = await admin.post(path, content=body, headers=headers)
    assert "application/json" in assert_problem(answer, 415, "UNSUPPORTED_MEDIA_TYPE")["detail"]


async def test_file_sent_to_the_api(admin: httpx.AsyncClient) -> None:
    """A file sent to the API instead of storage is told where files go."""
    answer = await admin.post(
        f"{JOBS}/", content=b"\x89PNG" * 500_000, headers={"content-type": "image/png"}
    )
    assert "upload ticket" in assert_problem(answer, 413, "BODY_TOO_LARGE")["detail"]


async def test_nesting_that_is_meant_well(admin: httpx.AsyncClient) -> None:
    """Brackets in text are no nesting, and 32 levels are let through to the schema."""
    body = {"model_id": "dreamfusion-sd", "prompt": "[" * 100 + '"' + "{" * 100}
    assert (await admin.post(f"{JOBS}/validate", json=body)).status_code == 200
    deep = b"[" * 30 + b"]" * 30
    answer = await admin.post(f"{JOBS}/", content=_params(b'{"a":' + deep + b"}"), headers=JSON)
    assert_problem(answer, 422, "INVALID_PARAMETERS", pointer="/input_params/a")


async def test_endless_headers(admin: httpx.AsyncClient) -> None:
    """A header of 60 kB is read or refused, and breaks nothing."""
    for name in ("if-none-match", "prefer", "accept", "user-agent", "traceparent"):
        answer = await admin.get(f"{JOBS}/{uuid4()}", headers={name: "wait=1," * 8_500})
        assert_problem(answer, 404, "JOB_NOT_FOUND")


@pytest.mark.parametrize(
    "job_id",
    ["x", "1", "%00", "%ff", "..%2f..", "0" * 5000, "01a1f888-73af-74cc-b052-31987fc97afg"],
)
@pytest.mark.parametrize(
    ("method", "suffix"),
    [
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/cancel"),
        ("POST", "/retry"),
        ("GET", "/events"),
        ("GET", "/download"),
        ("GET", "/artifacts"),
        ("GET", "/artifacts/preview"),
    ],
)
async def test_bad_ids_in_paths(
    admin: httpx.AsyncClient, job_id: str, method: str, suffix: str
) -> None:
    """An id that is none is named; one with a slash in it is another path."""
    answer = await admin.request(method, f"{JOBS}/{job_id}{suffix}")
    if "%2f" in job_id:
        assert_problem(answer, 404, "NOT_FOUND")
    else:
        assert_problem(answer, 422, "INVALID_REQUEST", pointer="/path/job_id")
