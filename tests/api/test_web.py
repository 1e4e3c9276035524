"""What every answer has: ids, times, security headers, and CORS for those it is meant for."""

import base64
import hashlib
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request

from app.config import Settings
from app.db.session import Database
from app.web.middleware import BodyLimitMiddleware
from app.web.streams import streamed_paths, streams_body
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
    assert "strict-transport-security" not in headers


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/docs/oauth2-redirect"])
async def test_policy_of_pages(http: httpx.AsyncClient, path: str) -> None:
    """A page may run this server's files and the inline scripts that are in it, and no other."""
    answer = await http.get(path)
    assert answer.status_code == 200
    policies = answer.headers.get_list("content-security-policy")
    assert len(policies) == 1
    directives = dict(part.strip().split(" ", 1) for part in policies[0].split(";"))
    inline = re.findall(r"<script(?: [^>]*)?>(.*?)</script>", answer.text, re.DOTALL)
    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in inline
        if script.strip()
    ]
    assert directives["script-src"].split() == ["'self'", *hashes]
    assert directives["default-src"] == "'self'"
    assert directives["frame-ancestors"] == "'none'"
    for source in re.findall(r'(?:src|href)="([^"]+)"', answer.text):
        assert source.startswith(("/", "data:")), f"{path} loads {source}"


async def test_static_files_have_the_headers(http: httpx.AsyncClient) -> None:
    """Files of the pages have what every answer has."""
    page = (await http.get("/docs")).text
    (script,) = re.findall(r'<script src="([^"]+)"', page)
    answer = await http.get(script)
    assert answer.status_code == 200
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"


async def test_shortcuts_have_the_headers(people: People) -> None:
    """Polls and creates, which are answered past the framework, have them too."""
    person = await people.make()
    body = {"model_id": "dreamfusion-sd", "prompt": "a teapot"}
    created = await person.client.post(f"{JOBS}/", json=body)
    polled = await person.client.get(f"{JOBS}/{created.json()['id']}")
    assert (created.status_code, polled.status_code) == (201, 200)
    for answer in (created, polled):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] in {"no-store", "private, no-cache"}


@pytest.mark.parametrize(
    ("proxies", "headers", "scheme", "told"),
    [
        (0, {}, "https", True),
        (0, {}, "http", False),
        (0, {"x-forwarded-proto": "https"}, "http", False),
        (1, {"x-forwarded-proto": "https"}, "http", True),
        (1, {"x-forwarded-proto": "https, http"}, "http", False),
        (1, {"x-forwarded-proto": "http"}, "http", False),
        (1, {}, "http", False),
    ],
)
async def test_https_only(
    settings: Settings,
    database: Database,
    proxies: int,
    headers: dict[str, str],
    scheme: str,
    *,
    told: bool,
) -> None:
    """Who came by https, here or to a trusted proxy, is told to come by nothing else."""
    async with another_app(settings, trusted_proxies=proxies) as client:
        answer = await client.get(f"{scheme}://api.test/nothing", headers=headers)
    assert ("strict-transport-security" in answer.headers) is told


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
        exposed = headers["access-control-expose-headers"].lower().split(", ")
        assert {
            *("x-request-id", "etag", "location"),
            *("ratelimit", "ratelimit-policy", "retry-after"),
        } <= set(exposed)


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


async def _chunks(size: int, count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b" " * size


async def test_bodies_are_bounded_by_setting(settings: Settings, people: People) -> None:
    """A body of the size that is set is read, one byte more is not, said or sent in chunks."""
    person = await people.make()
    headers = {"x-api-key": person.key, "content-type": "application/json"}
    text = b'{"model_id": "dreamfusion-sd", "prompt": "a teapot"}'
    async with another_app(settings, max_body_bytes=4096) as client:
        whole = await client.post(f"{JOBS}/", content=text.ljust(4096), headers=headers)
        larger = await client.post(f"{JOBS}/", content=text.ljust(4097), headers=headers)
        chunked = await client.post(f"{JOBS}/", content=_chunks(1000, 5), headers=headers)
        endless = await client.post(f"{JOBS}/", content=_chunks(4096, 100_000), headers=headers)
    assert whole.status_code == 201
    for answer in (larger, chunked, endless):
        problem = assert_problem(answer, 413, "BODY_TOO_LARGE")
        assert "4096 bytes" in problem["detail"]
        assert answer.headers["connection"] == "close"


async def test_routes_that_stream_are_left_alone() -> None:
    """A route that reads its body as it comes says so, and gets all of it; others do not."""
    router = APIRouter()

    @router.post("/stream")
    @streams_body
    async def stream(request: Request) -> int:
        return sum([len(chunk) async for chunk in request.stream()])

    @router.post("/whole")
    async def whole(body: dict[str, Any]) -> int:
        return len(body)

    app = FastAPI()
    app.include_router(router, prefix="/inner")
    app.add_middleware(BodyLimitMiddleware, max_bytes=1000, max_depth=8)
    app.state.streamed_paths = streamed_paths(app)
    assert app.state.streamed_paths == {"/inner/stream"}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://api.test") as client:
        streamed = await client.post("/inner/stream", content=_chunks(1000, 50))
        refused = await client.post("/inner/whole", content=_chunks(1000, 2))
    assert streamed.json() == 50_000
    assert (refused.status_code, refused.json()["code"]) == (413, "BODY_TOO_LARGE")


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
