"""Who is asking: keys that are good, wrong, spent or of another kind."""

from collections.abc import Awaitable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import func, update

from app.accounts import authenticator, repository, service
from app.accounts.keys import hash_key
from app.accounts.tables import ApiKey, User
from app.config import Settings
from app.db.base import seconds
from app.db.session import Database
from tests.conftest import ADMIN_KEY, WORKER_KEY
from tests.support.apps import another_app
from tests.support.people import JOBS, People, Person
from tests.support.problems import assert_problem
from tests.support.signals import listening, until_refused
from tests.support.worker import FakeWorker

SOME_ID = "01a1f888-73af-74cc-b052-31987fc97afa"
CLIENT_ROUTES = [
    ("POST", f"{JOBS}/upload-ticket"),
    ("POST", f"{JOBS}/"),
    ("POST", JOBS),
    ("POST", f"{JOBS}/validate"),
    ("GET", f"{JOBS}/"),
    ("GET", f"{JOBS}/metrics"),
    ("GET", f"{JOBS}/{SOME_ID}"),
    ("DELETE", f"{JOBS}/{SOME_ID}"),
    ("GET", f"{JOBS}/{SOME_ID}/events"),
    ("GET", f"{JOBS}/{SOME_ID}/download"),
    ("GET", f"{JOBS}/{SOME_ID}/artifacts"),
    ("GET", f"{JOBS}/{SOME_ID}/artifacts/preview"),
    ("POST", f"{JOBS}/{SOME_ID}/cancel"),
    ("POST", f"{JOBS}/{SOME_ID}/retry"),
    ("GET", "/api/v1/models/"),
    ("GET", "/api/v1/models/inflate-v1"),
]
WORKER_ROUTES = [
    ("POST", "/worker/v1/workers/heartbeat"),
    *(
        ("POST", f"/worker/v1/attempts/{SOME_ID}/{call}")
        for call in ("claim", "heartbeat", "upload-tickets", "artifacts", "finish")
    ),
]


async def test_every_route_wants_a_key(http: httpx.AsyncClient, database: Database) -> None:
    """No route but health and docs answers without a key, and each says what to send."""
    for method, path in CLIENT_ROUTES + WORKER_ROUTES:
        answer = await http.request(method, path)
        assert_problem(answer, 401, "NOT_AUTHENTICATED")
        assert answer.headers["www-authenticate"] == "ApiKey, Bearer"


@pytest.mark.parametrize(
    "key",
    [
        "",
        "wrong",
        "p3d_user_aaaaaaaa_" + "a" * 49,
        "x" * 100_000,
        b"\xff\xfe",
        "'; DROP TABLE users; --",
    ],
)
async def test_wrong_keys(http: httpx.AsyncClient, database: Database, key: str | bytes) -> None:
    """An empty, unknown, malformed or endless key is refused."""
    answer = await http.get(f"{JOBS}/", headers={"x-api-key": key})
    assert_problem(answer, 401, "NOT_AUTHENTICATED")


async def test_mistyped_key_is_told_apart(people: People, http: httpx.AsyncClient) -> None:
    """A key with a typing error is called that; one that was never made is called unknown."""
    key = (await people.make()).key
    mistyped = key[:-1] + ("a" if key[-1] != "a" else "b")
    answer = await http.get(f"{JOBS}/", headers={"x-api-key": mistyped})
    assert "typing error" in assert_problem(answer, 401, "NOT_AUTHENTICATED")["detail"]
    answer = await http.get(f"{JOBS}/", headers={"x-api-key": "never-made"})
    assert "unknown" in assert_problem(answer, 401, "NOT_AUTHENTICATED")["detail"]


async def test_keys_of_the_settings(http: httpx.AsyncClient, database: Database) -> None:
    """FIRST_SUPERUSER_API_KEY is accepted as it stands in `.env`."""
    answer = await http.get(f"{JOBS}/", headers={"x-api-key": ADMIN_KEY})
    assert answer.status_code == 200


async def test_worker_key_is_for_workers_only(http: httpx.AsyncClient, database: Database) -> None:
    """A worker's key opens no client route."""
    for method, path in CLIENT_ROUTES:
        answer = await http.request(method, path, headers={"x-api-key": WORKER_KEY})
        assert "worker key" in assert_problem(answer, 403, "FORBIDDEN")["detail"]


async def test_user_key_is_not_for_workers(people: People, http: httpx.AsyncClient) -> None:
    """A user's key, an admin's too, opens no worker route."""
    for key in ((await people.make()).key, ADMIN_KEY):
        for method, path in WORKER_ROUTES:
            answer = await http.request(method, path, headers={"x-api-key": key})
            assert "worker key" in assert_problem(answer, 403, "FORBIDDEN")["detail"]


async def _revoke(database: Database, settings: Settings, key: str) -> None:
    key_hash = hash_key(key, settings.secret_key.get_secret_value())
    async with database.transaction() as session:
        found = await repository.find_key(session, key_hash)
        assert found is not None
        await service.revoke_key(session, found)


async def test_revoked_key_is_refused_by_every_process(
    people: People, database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key revoked in one process is refused by another that had cached it, by signal alone."""
    monkeypatch.setattr(authenticator, "CACHE_SECONDS", 3600.0)
    person = await people.make()
    async with another_app(settings) as other:

        def elsewhere() -> Awaitable[httpx.Response]:
            return other.get(f"{JOBS}/", headers={"x-api-key": person.key})

        def here() -> Awaitable[httpx.Response]:
            return person.client.get(f"{JOBS}/")

        assert (await elsewhere()).status_code == 200
        assert (await here()).status_code == 200
        await listening(other)
        await _revoke(database, settings, person.key)
        assert_problem(await until_refused(elsewhere), 401, "NOT_AUTHENTICATED")
        assert_problem(await until_refused(here), 401, "NOT_AUTHENTICATED")


async def test_revoked_while_it_was_looked_up(
    people: People,
    http: httpx.AsyncClient,
    app: FastAPI,
    database: Database,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A key that is revoked between being read and being cached is not cached as a good one."""
    monkeypatch.setattr(authenticator, "CACHE_SECONDS", 3600.0)
    person = await people.make()
    read = repository.find_live_key

    async def read_and_revoke(*arguments: Any) -> Any:
        found = await read(*arguments)
        monkeypatch.setattr(repository, "find_live_key", read)
        await _revoke(database, settings, person.key)
        app.state.authenticator._forget(str(found.key.id))  # as the signal does
        return found

    monkeypatch.setattr(repository, "find_live_key", read_and_revoke)
    headers = {"x-api-key": person.key}
    assert (await http.get(f"{JOBS}/", headers=headers)).status_code == 200
    assert_problem(await http.get(f"{JOBS}/", headers=headers), 401, "NOT_AUTHENTICATED")


async def _change(database: Database, table: Any, condition: Any, **values: Any) -> None:
    async with database.transaction() as session:
        await session.execute(update(table).where(condition).values(**values))


async def test_expired_key(people: People, database: Database) -> None:
    """A key whose time is over is refused."""
    person = await people.make()
    await _change(database, ApiKey, ApiKey.user_id == person.id, expires_at=func.now() - seconds(1))
    assert_problem(await person.client.get(f"{JOBS}/"), 401, "NOT_AUTHENTICATED")


async def test_key_that_will_expire(people: People, database: Database) -> None:
    """A key whose time is not over works."""
    person = await people.make()
    await _change(
        database, ApiKey, ApiKey.user_id == person.id, expires_at=func.now() + seconds(3600)
    )
    assert (await person.client.get(f"{JOBS}/")).status_code == 200


async def test_inactive_user(people: People, database: Database) -> None:
    """The key of a user who was deactivated is refused."""
    person: Person = await people.make()
    await _change(database, User, User.id == person.id, is_active=False)
    assert_problem(await person.client.get(f"{JOBS}/"), 401, "NOT_AUTHENTICATED")


async def test_revoked_worker_key(
    worker: FakeWorker, database: Database, settings: Settings
) -> None:
    """A worker whose key was revoked is refused."""
    assert (await worker.report()).status_code == 200
    await _revoke(database, settings, WORKER_KEY)
    assert_problem(await until_refused(worker.report), 401, "NOT_AUTHENTICATED")
