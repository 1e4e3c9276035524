"""Guessing passwords: slowed down, locked for a while, and never told who there is."""

import asyncio
import json
import threading
from typing import Any

import httpx
import pytest
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from sqlalchemy import func, select, update

from app.accounts import passwords
from app.accounts.tables import User
from app.config import Settings
from app.db.base import seconds
from app.db.session import Database
from app.errors import ServiceUnavailableError
from app.sessions.retention import forget_sessions
from app.sessions.tables import LoginFailure
from tests.support.apps import another_app
from tests.support.people import AUTH, JOBS, PASSWORD, People
from tests.support.problems import assert_problem
from tests.support.rows import nothing_written

WRONG = "Wrong-Horse-9"


async def _try(
    http: httpx.AsyncClient, name: str, password: str = WRONG, **headers: str
) -> httpx.Response:
    body = {"username": name, "password": password}
    return await http.post(f"{AUTH}/login", json=body, headers=headers)


def _told(answer: httpx.Response) -> Any:
    """All of an answer that could tell one account from another."""
    changing = {"date", "ratelimit", "x-request-id", "x-response-time-ms"}
    headers = {k: v for k, v in answer.headers.items() if k not in changing}
    return answer.status_code, headers, {**answer.json(), "request_id": None}


async def test_nothing_tells_who_there_is(
    people: People, http: httpx.AsyncClient, database: Database
) -> None:
    """A wrong password, an unknown name and a deactivated account get the very same answer."""
    person, inactive = await people.make(), await people.make()
    async with database.transaction() as session:
        (await session.get_one(User, inactive.id)).is_active = False
    known = _told(await _try(http, person.username))
    assert known[0] == 401
    assert _told(await _try(http, "nobody")) == known
    assert _told(await _try(http, "nobody@example.org")) == known
    assert _told(await _try(http, inactive.username, PASSWORD)) == known


async def test_same_work_for_a_name_that_nobody_has(
    people: People, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A password is hashed once for whatever name, with the same cost."""
    person = await people.make()
    hashed: list[str] = []

    class Counting(Argon2Hasher):
        def verify(self, password: str | bytes, hash: str | bytes) -> bool:  # noqa: A002
            """Note the hash's parameters."""
            hashed.append(str(hash).rsplit("$", 2)[0])
            return super().verify(password, hash)

    cheap = Counting(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(passwords, "_hasher", PasswordHash((cheap,)))
    await _try(http, person.username)
    await _try(http, "nobody")
    assert len(hashed) == 2
    assert hashed[0] == hashed[1]


async def test_name_is_locked_whether_anybody_has_it_or_not(
    people: People, http: httpx.AsyncClient, settings: Settings
) -> None:
    """After so many wrong passwords even the right one is refused, with how long to wait."""
    person = await people.make()
    for name in (person.username, "nobody"):
        for _ in range(settings.login_max_failures):
            assert_problem(await _try(http, name), 401, "LOGIN_REFUSED")
        answer = await _try(http, name, PASSWORD)
        assert_problem(answer, 429, "LOGIN_LOCKED")
        wait = int(answer.headers["retry-after"])
        assert settings.login_lock_seconds - 60 < wait <= settings.login_lock_seconds
        assert str(wait) in answer.json()["detail"]


async def test_every_spelling_is_one_name(
    people: People, http: httpx.AsyncClient, settings: Settings
) -> None:
    """Nobody gets more tries by writing the name in another way."""
    person = await people.make()
    for number in range(settings.login_max_failures):
        name = person.username.upper() if number % 2 else f" {person.username}"
        assert_problem(await _try(http, name), 401, "LOGIN_REFUSED")
    assert_problem(await _try(http, person.username, PASSWORD), 429, "LOGIN_LOCKED")


async def test_lock_ends(people: People, http: httpx.AsyncClient, database: Database) -> None:
    """When its time is over, the right password works again and what was wrong is forgotten."""
    person = await people.make()
    for _ in range(6):
        await _try(http, person.username)
    async with database.transaction() as session:
        await session.execute(update(LoginFailure).values(expires_at=func.now() - seconds(1)))
    assert (await _try(http, person.username, PASSWORD)).status_code == 200
    assert_problem(await _try(http, person.username), 401, "LOGIN_REFUSED")


async def test_right_password_forgives(
    people: People, http: httpx.AsyncClient, settings: Settings
) -> None:
    """One who mistypes now and then is never locked out."""
    person = await people.make()
    for _ in range(3):
        for _ in range(settings.login_max_failures - 1):
            assert_problem(await _try(http, person.username), 401, "LOGIN_REFUSED")
        assert (await _try(http, person.username, PASSWORD)).status_code == 200


async def test_at_the_same_time_no_more_tries(
    people: People, http: httpx.AsyncClient, settings: Settings
) -> None:
    """Guesses that arrive together are counted before any of them is looked at."""
    person = await people.make()
    answers = await asyncio.gather(*(_try(http, person.username) for _ in range(20)))
    codes = [answer.json()["code"] for answer in answers]
    assert codes.count("LOGIN_REFUSED") == settings.login_max_failures
    assert codes.count("LOGIN_LOCKED") == 20 - settings.login_max_failures


async def test_address_that_tries_many_names(
    people: People, database: Database, settings: Settings
) -> None:
    """Whoever tries a password on many names is locked out by address, whatever the name."""
    person = await people.make()
    async with another_app(settings, login_max_failures_per_address=10) as http:
        for number in range(10):
            assert_problem(await _try(http, f"name{number}"), 401, "LOGIN_REFUSED")
        assert_problem(await _try(http, person.username, PASSWORD), 429, "LOGIN_LOCKED")


async def test_own_account_does_not_clear_the_address(
    people: People, database: Database, settings: Settings
) -> None:
    """Logging in with an account of one's own in between buys no more tries."""
    person = await people.make()
    async with another_app(settings, login_max_failures_per_address=10) as http:
        for number in range(10):
            assert_problem(await _try(http, f"name{number}"), 401, "LOGIN_REFUSED")
            if number < 9:
                assert (await _try(http, person.username, PASSWORD)).status_code == 200
        assert_problem(await _try(http, "name10"), 429, "LOGIN_LOCKED")


async def test_forwarded_addresses_are_believed_by_setting_only(
    people: People, database: Database, settings: Settings
) -> None:
    """With a proxy in front its clients count one by one; without, the header is not looked at."""
    names = iter(range(1000))

    async def tries(http: httpx.AsyncClient, forwarded: str) -> str:
        answer = await _try(http, f"name{next(names)}", **{"x-forwarded-for": forwarded})
        return str(answer.json()["code"])

    few: dict[str, Any] = {"login_max_failures_per_address": 2}
    async with another_app(settings, **few, trusted_proxies=1) as http:
        for client in ("192.0.2.1", "192.0.2.2"):
            # What is left of the proxy's own entry the client has made up.
            codes = [await tries(http, f"203.0.113.{n}, {client}") for n in range(3)]
            assert codes == ["LOGIN_REFUSED", "LOGIN_REFUSED", "LOGIN_LOCKED"]
    async with another_app(settings, **few) as http:
        codes = [await tries(http, f"198.51.100.{n}") for n in range(3)]
        assert codes == ["LOGIN_REFUSED", "LOGIN_REFUSED", "LOGIN_LOCKED"]


async def test_tables_tell_no_names(http: httpx.AsyncClient, database: Database) -> None:
    """What was typed as a name, perhaps a password, is not kept in the table of failures."""
    await _try(http, "Correct-Horse-9-typed-as-name")
    async with database.transaction() as session:
        subjects = (await session.scalars(select(LoginFailure.subject))).all()
    assert len(subjects) == 2
    assert all(len(subject) == 64 for subject in subjects)


async def test_old_failures_are_deleted(http: httpx.AsyncClient, database: Database) -> None:
    """Failures that no longer count don't stay for ever."""
    await _try(http, "nobody")
    assert await forget_sessions(database) == 0
    async with database.transaction() as session:
        await session.execute(update(LoginFailure).values(expires_at=func.now() - seconds(1)))
    assert await forget_sessions(database) == 2


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"username": "ada", "password": "x" * 1025}, "/password"),
        ({"username": "ada", "password": "é" * 600}, "/password"),
        ({"username": "ada", "password": ""}, "/password"),
        ({"username": "ada", "password": "\ud800"}, "/password"),
        ({"username": "x" * 255, "password": PASSWORD}, "/username"),
        ({"username": "a\x00", "password": PASSWORD}, "/username"),
        ({"username": "\ud800", "password": PASSWORD}, "/username"),
        ({"username": 7, "password": PASSWORD}, "/username"),
        ({"username": "ada"}, "/password"),
        ({"username": "ada", "password": PASSWORD, "otp": "1"}, "/otp"),
    ],
)
async def test_hostile_bodies(
    http: httpx.AsyncClient,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    body: dict[str, Any],
    pointer: str,
) -> None:
    """What can't be a name or a password is refused before anything is hashed or counted."""
    monkeypatch.setattr(passwords, "_threads", None)
    content = json.dumps(body)
    headers = {"content-type": "application/json"}
    async with nothing_written(database):
        answer = await http.post(f"{AUTH}/login", content=content, headers=headers)
    assert_problem(answer, 422, "INVALID_REQUEST", pointer=pointer)
    assert PASSWORD not in answer.text


@pytest.mark.parametrize(
    "name", ["'; DROP TABLE users; --", "%", "a@b@c", "@", "\u202eada", "\u0661"]
)
async def test_odd_names(http: httpx.AsyncClient, database: Database, name: str) -> None:
    """Any name that could be typed is simply not one that anybody has."""
    assert_problem(await _try(http, name), 401, "LOGIN_REFUSED")


async def test_flood_of_log_ins_starves_nobody(
    people: People, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While hashes hang others are served; log-ins beyond the queue are refused, not counted."""
    person = await people.make()
    go_on = threading.Event()

    class Hanging(Argon2Hasher):
        def verify(self, password: str | bytes, hash: str | bytes) -> bool:  # noqa: A002
            """Take until the test says so."""
            go_on.wait(60)
            return super().verify(password, hash)

    cheap = Hanging(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(passwords, "_hasher", PasswordHash((cheap,)))
    monkeypatch.setattr(passwords, "_threads", passwords._Threads(threads=1, waiting=2))
    flood = [asyncio.create_task(_try(http, person.username, PASSWORD)) for _ in range(3)]
    try:
        while passwords._threads._room:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        for _ in range(10):
            answer = await _try(http, "somebody", PASSWORD)
            assert_problem(answer, 503, "SERVICE_UNAVAILABLE")
            assert (await person.client.get(f"{JOBS}/")).status_code == 200
    finally:
        go_on.set()
    assert {answer.status_code for answer in await asyncio.gather(*flood)} == {200}
    assert_problem(await _try(http, "somebody"), 401, "LOGIN_REFUSED")


async def test_password_threads_are_bounded() -> None:
    """No more hashes run at once than there are threads, and no more wait than there is room."""
    threads = passwords._Threads(threads=2, waiting=1)
    go_on = threading.Event()
    running = [asyncio.create_task(threads.run(go_on.wait)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(ServiceUnavailableError):
        await threads.run(go_on.wait)
    go_on.set()
    assert await asyncio.gather(*running) == [True, True, True]
    assert await threads.run(go_on.wait)


async def test_better_parameters_are_taken_over(
    people: People, http: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hash by earlier parameters becomes one by today's with the next log-in."""
    person = await people.make()
    better = Argon2Hasher(time_cost=2, memory_cost=16, parallelism=1)
    monkeypatch.setattr(passwords, "_hasher", PasswordHash((better,)))
    assert (await _try(http, person.username, PASSWORD)).status_code == 200
    async with database.transaction() as session:
        assert "m=16,t=2,p=1" in (await session.get_one(User, person.id)).password_hash
    assert (await _try(http, person.username, PASSWORD)).status_code == 200
