"""What every answer has: ids, times, security headers, and CORS for those it is meant for."""

import re

import httpx
import pytest

from app.config import Settings
from app.db.session import Database
from tests.support.apps import DEAD_PORT, another_app
from tests.support.people import JOBS, People
from tests.support.problems import assert_problem
from tests.support.rows import nothing_written

ORIGIN = "http://localhost:3000"
PATHS = ["/livez", "/api/v1/models/", "/nothing", f"{JOBS}/not-an-id"]


@pytest.mark.parametrize("path", PATHS)
async def test_headers_on_every_answer(http: httpx.AsyncClient, path: str) -> None:
    """Good answers and errors alike have an id, a time and security headers."""
    headers = (await http.get(path)).headers
    assert re.fullmatch(r"[0-9a-f-]{36}", headers["x-request-id"])
    assert float(headers["x-response-time-ms"]) >= 0
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "max-age" in headers["strict-transport-security"]


async def test_docs_may_load_their_scripts(http: httpx.AsyncClient) -> None:
    """The API's policy would break the pages of /docs and /redoc, so it is not on them."""
    for path in ("/docs", "/redoc"):
        answer = await http.get(path)
        assert answer.status_code == 200
        assert "default-src 'none'" not in answer.headers.get("content-security-policy", "")


@pytest.mark.parametrize("request_id", ["abc", "A.b-c_9", "x" * 128])
async def test_request_id_is_kept(http: httpx.AsyncClient, request_id: str) -> None:
    """A sensible X-Request-ID comes back, in errors too."""
    answer = await http.get("/livez", headers={"x-request-id": request_id})
    assert answer.headers["x-request-id"] == request_id
    answer = await http.get("/nothing", headers={"x-request-id": request_id})
    assert assert_problem(answer, 404, "NOT_FOUND")["request_id"] == request_id


@pytest.mark.parametrize("request_id", ["", "a b", "x" * 129, "x" * 100_000, "é".encode(), "a\tb"])
async def test_request_id_is_replaced(http: httpx.AsyncClient, request_id: str | bytes) -> None:
    """A request id that could confuse a log is replaced."""
    answer = await http.get("/livez", headers={"x-request-id": request_id})
    assert re.fullmatch(r"[0-9a-f-]{36}", answer.headers["x-request-id"])


@pytest.mark.parametrize(
    "traceparent",
    ["", "x", "00-" + "0" * 32 + "-b7ad6b7169203331-01", "ff" * 200, "00-0AF7-b7ad-01"],
)
async def test_bad_trace_context_is_replaced(people: People, traceparent: str) -> None:
    """A trace context that is not one does no harm."""
    person = await people.make()
    answer = await person.submit(
        model_id="dreamfusion-sd",
        input_params={},
        prompt="a teapot",
        headers={"traceparent": traceparent},
    )
    assert answer.status_code == 201


async def test_cors_for_an_allowed_origin(http: httpx.AsyncClient) -> None:
    """A listed origin may read answers, errors too, and send its key."""
    for path in ("/livez", f"{JOBS}/"):
        headers = (await http.get(path, headers={"origin": ORIGIN})).headers
        assert headers["access-control-allow-origin"] == ORIGIN
        assert headers["access-control-allow-credentials"] == "true"
        assert "x-request-id" in headers["access-control-expose-headers"].lower()


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "*", f"{ORIGIN}.evil.example", "https://localhost:3000", ""],
)
async def test_cors_for_other_origins(http: httpx.AsyncClient, origin: str) -> None:
    """No other origin is allowed anything, and `*` is never answered."""
    headers = (await http.get("/livez", headers={"origin": origin})).headers
    assert "access-control-allow-origin" not in headers
    preflight = await http.options(
        f"{JOBS}/", headers={"origin": origin, "access-control-request-method": "POST"}
    )
    assert "access-control-allow-origin" not in preflight.headers


async def test_preflight(http: httpx.AsyncClient) -> None:
    """A browser may ask whether it may create a job, without a key."""
    answer = await http.options(
        f"{JOBS}/",
        headers={
            "origin": ORIGIN,
            "access-control-request-method": "POST",
            "access-control-request-headers": "x-api-key,content-type,idempotency-key",
        },
    )
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    methods = set(answer.headers["access-control-allow-methods"].split(", "))
    assert methods == {"GET", "POST", "PATCH", "DELETE"}
    assert "x-api-key" in answer.headers["access-control-allow-headers"].lower()


async def test_no_cors_without_origins(settings: Settings, database: Database) -> None:
    """With no origins listed, no origin is allowed."""
    async with another_app(settings, backend_cors_origins=[]) as client:
        headers = (await client.get("/livez", headers={"origin": ORIGIN})).headers
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "NOT_FOUND"),
        ("GET", "/api/v1/", 404, "NOT_FOUND"),
        ("GET", "/api/v2/jobs/", 404, "NOT_FOUND"),
        ("GET", "//api/v1/jobs/", 404, "NOT_FOUND"),
        ("PUT", f"{JOBS}/", 405, "METHOD_NOT_ALLOWED"),
        ("PATCH", "/livez", 405, "METHOD_NOT_ALLOWED"),
        ("GET", f"{JOBS}/validate/", 404, "NOT_FOUND"),
    ],
)
async def test_unknown_paths(
    http: httpx.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    """A path or method that does not exist is a problem like any other, and never a redirect."""
    answer = await http.request(method, str(http.base_url).rstrip("/") + path)
    assert_problem(answer, status, code)
    assert status != 405 or answer.headers["allow"]


async def test_storage_away(settings: Settings, people: People, database: Database) -> None:
    """With storage away a job with an upload is refused for now, and nothing is written."""
    person = await people.make()
    body = {"model_id": "inflate-v1", "input_params": {"image_path": await person.upload()}}
    text_job = {"model_id": "dreamfusion-sd", "prompt": "a teapot"}
    key = {"x-api-key": person.key}
    async with another_app(settings, minio_endpoint=f"http://127.0.0.1:{DEAD_PORT}") as client:
        async with nothing_written(database):
            answer = await client.post(f"{JOBS}/", json=body, headers=key)
        problem = assert_problem(answer, 503, "SERVICE_UNAVAILABLE")
        without = await client.post(f"{JOBS}/", json=text_job, headers=key)
    assert "storage" in problem["detail"].lower()
    assert answer.headers["retry-after"]
    assert "127.0.0.1" not in answer.text
    assert without.status_code == 201


async def test_database_away(settings: Settings, database: Database) -> None:
    """With the database away every route says so, without its address."""
    url = f"postgresql+asyncpg://u:secret-word@127.0.0.1:{DEAD_PORT}/x"
    async with another_app(settings, database_url=url) as client:
        for path in (f"{JOBS}/", "/api/v1/models/"):
            answer = await client.get(path, headers={"x-api-key": "some-key"})
            problem = assert_problem(answer, 503, "SERVICE_UNAVAILABLE")
            assert "database" in problem["detail"].lower()
            assert "127.0.0.1" not in answer.text
            assert "secret-word" not in answer.text
