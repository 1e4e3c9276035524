"""Who asks too often is refused, by all processes together, and told when to come again."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest
from redis import Redis

from app.accounts.service import create_api_key
from app.accounts.tables import User
from app.config import Settings
from app.db.session import Database
from app.limits.policies import Kind, Policies
from devstack.servers import RedisServer
from tests.conftest import WORKER_KEY
from tests.faults.proxy import FaultProxy, Mode
from tests.support.apps import DEAD_PORT, another_app
from tests.support.people import JOBS, People, Person
from tests.support.problems import assert_problem
from tests.support.runs import Stage

MODELS = "/api/v1/models/"
TEXT_JOB: dict[str, Any] = {
    "model_id": "dreamfusion-sd",
    "prompt": "a teapot",
    "input_params": {},
}
POLICY = re.compile(r'"([a-z-]+)";q=(\d+);w=(\d+)')
LEFT = re.compile(r'"([a-z-]+)";r=(\d+);t=(\d+)')


@pytest.fixture
def limited(settings: Settings, redis: Redis) -> Settings:
    """Settings as for production, but that Redis may take its time on a busy machine."""
    return settings.model_copy(
        update={
            "rate_limit_requests_per_user": 40,
            "rate_limit_requests_per_address": 40,
            "rate_limit_downloads_per_user": 3,
            "rate_limit_creates_per_user": 4,
            "rate_limit_redis_seconds": 10.0,
        }
    )


@asynccontextmanager
async def _api(settings: Settings, **changes: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with another_app(settings, **changes) as client:
        yield client


def _key(person: Person) -> dict[str, str]:
    return {"x-api-key": person.key}


def _policies(answer: httpx.Response) -> dict[str, tuple[int, int]]:
    found = POLICY.findall(answer.headers["ratelimit-policy"])
    return {name: (int(quota), int(window)) for name, quota, window in found}


def _left(answer: httpx.Response) -> dict[str, int]:
    return {name: int(left) for name, left, _ in LEFT.findall(answer.headers["ratelimit"])}


async def _ask(client: httpx.AsyncClient, person: Person, times: int) -> Counter[int]:
    answers = [await client.get(MODELS, headers=_key(person)) for _ in range(times)]
    return Counter(answer.status_code for answer in answers)


async def test_requests_of_a_user(limited: Settings, people: People) -> None:
    """As many as the quota are answered, each with what is left; the next is told to wait."""
    person = await people.make()
    async with _api(limited) as client:
        for number in range(1, 41):
            answer = await client.get(MODELS, headers=_key(person))
            assert answer.status_code == 200
            assert _policies(answer) == {"requests": (40, 60)}
            assert _left(answer) == {"requests": 40 - number}
        refused = await client.get(MODELS, headers=_key(person))
        other = await client.get(MODELS, headers=_key(await people.make()))
    problem = assert_problem(refused, 429, "RATE_LIMIT_EXCEEDED")
    wait = int(refused.headers["retry-after"])
    assert 1 <= wait <= 120
    assert f"Wait {wait} seconds" in problem["detail"]
    assert "your account has 40 in 60 seconds" in problem["detail"]
    assert _left(refused) == {"requests": 0}
    assert other.status_code == 200


async def test_two_processes_share_a_quota(limited: Settings, people: People) -> None:
    """Two processes that are asked in turn admit the quota between them, not twice it."""
    person = await people.make()
    async with _api(limited) as one, _api(limited) as two:
        found: Counter[int] = Counter()
        for _ in range(40):
            for client in (one, two):
                found += await _ask(client, person, 1)
    assert found == {200: 40, 429: 40}


async def test_many_processes_at_once(limited: Settings, people: People) -> None:
    """A burst on four processes exceeds the quota by no more than a share of each other one."""
    person = await people.make()
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(_api(limited)) for _ in range(4)]
        for client in clients:  # the key is looked up before the burst
            await client.get("/livez", headers=_key(person))
        answers = await asyncio.gather(
            *(client.get(MODELS, headers=_key(person)) for client in clients for _ in range(40))
        )
    share = Policies.of(limited).user[Kind.REQUESTS].share
    admitted = sum(answer.status_code == 200 for answer in answers)
    assert 40 <= admitted <= 40 + 3 * share
    assert {answer.status_code for answer in answers} == {200, 429}


async def test_a_key_may_have_less_than_its_user(
    limited: Settings, people: People, database: Database
) -> None:
    """A limit of keys below that of users stops one key, and the user's other key goes on."""
    person = await people.make()
    async with database.transaction() as session:
        user = await session.get_one(User, person.id)
        secret = limited.secret_key.get_secret_value()
        _, other = await create_api_key(session, secret_key=secret, user=user, name="other")
    async with _api(limited, rate_limit_requests_per_key=5) as client:
        found = await _ask(client, person, 6)
        answer = await client.get(MODELS, headers={"x-api-key": other})
    assert found == {200: 5, 429: 1}
    assert answer.status_code == 200
    assert _left(answer) == {"requests": 33, "requests-of-key": 4}


def test_a_limit_that_never_comes_to_bear_is_not_counted(limited: Settings) -> None:
    """A key's limit counts only where it is below the user's, or the user has none."""
    for of_user, of_key, counted in (
        (40, 40, False),
        (40, 39, True),
        (0, 40, True),
        (40, 0, False),
    ):
        changed = {"rate_limit_requests_per_user": of_user, "rate_limit_requests_per_key": of_key}
        policies = Policies.of(limited.model_copy(update=changed))
        assert (Kind.REQUESTS in policies.key) is counted


async def test_creates(limited: Settings, people: People) -> None:
    """New jobs have a limit of their own, by the shortcut and by the route alike."""
    person = await people.make()
    async with _api(limited) as client:
        answers = [
            await client.post(path, json=TEXT_JOB, headers=_key(person))
            for path in (f"{JOBS}/", JOBS) * 3
        ]
        validated = await client.post(f"{JOBS}/validate", json=TEXT_JOB, headers=_key(person))
    assert [answer.status_code for answer in answers] == [201] * 4 + [429] * 2
    assert _left(answers[2]) == {"requests": 37, "creates": 1}
    assert_problem(answers[4], 429, "RATE_LIMIT_EXCEEDED")
    assert validated.status_code == 200
    assert "creates" not in _left(validated)


@pytest.mark.parametrize("path", ["download", "artifacts", "artifacts/", "artifacts/model_3d"])
async def test_downloads(limited: Settings, people: People, stage: Stage, path: str) -> None:
    """Answers with presigned URLs of files have a limit of their own."""
    person = await people.make()
    job = await stage.succeeded(person)
    async with _api(limited) as client:
        url = f"{JOBS}/{job['id']}/{path}"
        answers = [await client.get(url, headers=_key(person)) for _ in range(4)]
        polled = await client.get(f"{JOBS}/{job['id']}", headers=_key(person))
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert "download links" in answers[3].json()["detail"]
    assert polled.status_code == 200


async def test_polls_have_the_headers(limited: Settings, people: People) -> None:
    """The poll route answers past the framework, and counts all the same: 200, 304 and wait."""
    person = await people.make()
    job = await person.job(**TEXT_JOB)
    url = f"{JOBS}/{job['id']}"
    async with _api(limited) as client:
        first = await client.get(url, headers=_key(person))
        tag = {"if-none-match": first.headers["etag"]}
        second = await client.get(url, headers={**_key(person), **tag})
        third = await client.get(url, headers={**_key(person), **tag, "prefer": "wait=1"})
    assert [first.status_code, second.status_code, third.status_code] == [200, 304, 304]
    assert [_left(answer)["requests"] for answer in (first, second, third)] == [39, 38, 37]


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", MODELS, {}, 401),
        ("GET", MODELS, {"x-api-key": "wrong"}, 401),
        ("GET", "/nothing", {"x-api-key": "wrong"}, 404),
        ("GET", "/openapi.json", {}, 200),
        ("POST", f"{JOBS}/", {"content-type": "application/json"}, 401),
    ],
)
async def test_requests_of_an_address(
    limited: Settings, database: Database, method: str, path: str, headers: Any, status: int
) -> None:
    """What shows no key that is known counts for the address that it comes from."""
    body = b"{}" if method == "POST" else b""
    async with _api(limited, rate_limit_requests_per_address=5) as client:
        answers = [
            await client.request(method, path, headers=headers, content=body) for _ in range(6)
        ]
    assert [answer.status_code for answer in answers] == [status] * 5 + [429]
    assert _left(answers[0]) == {"requests-of-address": 4}
    assert_problem(answers[5], 429, "RATE_LIMIT_EXCEEDED")


async def test_known_callers_are_not_held_up_by_their_address(
    limited: Settings, people: People
) -> None:
    """Behind one address there are many; one without a key does not stop those with one."""
    person = await people.make()
    async with _api(limited, rate_limit_requests_per_address=1) as client:
        refused = [await client.get("/nothing") for _ in range(3)]
        answer = await client.get(MODELS, headers=_key(person))
    assert refused[-1].status_code == 429
    assert answer.status_code == 200


async def test_forwarded_addresses(limited: Settings, database: Database) -> None:
    """Behind a trusted proxy the client's address counts, of IPv6 its network; else the peer's."""
    clients = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"]
    changes = {"rate_limit_requests_per_address": 1}
    headers = [{"x-forwarded-for": f"203.0.113.9, {address}"} for address in clients]
    async with _api(limited, **changes, trusted_proxies=1) as client:
        found = [(await client.get("/nothing", headers=item)).status_code for item in headers]
    assert found == [404, 404, 404, 429, 404]
    async with _api(limited, **changes) as client:
        found = [(await client.get("/nothing", headers=item)).status_code for item in headers]
    assert found == [404] + [429] * 4


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/health", "/api/v1/livez"])
async def test_health_is_not_limited(limited: Settings, database: Database, path: str) -> None:
    """Whoever watches over the service may ask as often as they like."""
    async with _api(limited, rate_limit_requests_per_address=1) as client:
        answers = [await client.get(path) for _ in range(5)]
    assert {answer.status_code for answer in answers} == {200}
    assert "ratelimit" not in answers[0].headers


async def test_workers_are_not_limited(limited: Settings, database: Database) -> None:
    """A worker must be able to report whatever it has to."""
    path = f"/worker/v1/attempts/{uuid4()}/heartbeat"
    headers = {"x-api-key": WORKER_KEY, "x-attempt-token": "x"}
    async with _api(limited, rate_limit_requests_per_address=1) as client:
        answers = [await client.post(path, json={}, headers=headers) for _ in range(5)]
    assert {answer.status_code for answer in answers} == {404}


async def test_nothing_is_limited_by_zero(limited: Settings, people: People) -> None:
    """A limit of 0 is none, and no header speaks of it."""
    person = await people.make()
    off = {name: 0 for name in Settings.model_fields if name.startswith("rate_limit_re")}
    off.pop("rate_limit_redis_seconds")
    async with _api(limited, **off) as client:
        answer = await client.get(MODELS, headers=_key(person))
        unknown = await client.get("/nothing")
    for headers in (answer.headers, unknown.headers):
        assert "ratelimit" not in headers


async def test_redis_away(limited: Settings, people: People) -> None:
    """With Redis away requests go on, and new jobs have the limit in each process by itself."""
    person = await people.make()
    dead = f"redis://127.0.0.1:{DEAD_PORT}/0"
    async with _api(limited, redis_url=dead) as client:
        found = await _ask(client, person, 60)
        created = Counter(
            [
                (await client.post(f"{JOBS}/", json=TEXT_JOB, headers=_key(person))).status_code
                for _ in range(6)
            ]
        )
    assert found == {200: 60}
    assert created == {201: 4, 429: 2}


async def test_redis_frozen(
    limited: Settings, people: People, capsys: pytest.CaptureFixture[str]
) -> None:
    """A Redis that takes connections and never answers is found out once; nobody waits again."""
    person = await people.make()
    waiting: list[asyncio.StreamWriter] = []

    async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        waiting.append(writer)

    frozen = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = frozen.sockets[0].getsockname()[1]
    changes = {"redis_url": f"redis://127.0.0.1:{port}/0", "rate_limit_redis_seconds": 0.2}
    try:
        async with _api(limited, **changes) as client:
            found = await _ask(client, person, 60)
    finally:
        for writer in waiting:
            writer.close()
        frozen.close()
        await frozen.wait_closed()
    assert found == {200: 60}
    shown = capsys.readouterr()
    assert (shown.out + shown.err).count("Redis does not answer in time") == 1


async def test_redis_comes_back(
    limited: Settings, people: People, redis: Redis, redis_server: RedisServer
) -> None:
    """What was admitted while Redis was out of reach counts in all processes afterwards."""
    person = await people.make()
    port = urlsplit(redis_server.url).port
    assert port is not None
    with FaultProxy(port) as proxy:
        by_proxy = proxy.instead_of(redis_server.url)
        async with _api(limited) as other, _api(limited, redis_url=by_proxy) as client:
            proxy.break_requests(Mode.RESET)
            assert await _ask(client, person, 20) == {200: 20}
            proxy.heal()
            answer = await other.get(MODELS, headers=_key(person))
            while _left(answer)["requests"] >= 20:  # until the others are told of the twenty
                await asyncio.sleep(1)
                answer = await other.get(MODELS, headers=_key(person))
                assert answer.status_code == 200, "nobody told"


async def test_counts_survive_an_outage(limited: Settings, people: People, redis: Redis) -> None:
    """What Redis has forgotten is admitted anew; nothing fails."""
    person = await people.make()
    async with _api(limited) as client:
        assert await _ask(client, person, 30) == {200: 30}
        redis.flushall()
        found = await _ask(client, person, 60)
    assert set(found) == {200, 429}
    assert found[429] >= 1


async def test_a_process_that_stops_tells_what_it_admitted(
    limited: Settings, people: People
) -> None:
    """What a process has admitted without asking is known to the next one."""
    person = await people.make()
    share = Policies.of(limited).user[Kind.REQUESTS].share
    async with _api(limited) as client:
        await _ask(client, person, share)
    async with _api(limited) as client:
        assert await _ask(client, person, 41) == {200: 40 - share, 429: 1 + share}
