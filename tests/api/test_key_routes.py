"""API keys by the API: create, list, rotate, revoke; scopes and expiry."""

import asyncio
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select, update

from app.accounts import authenticator, key_management
from app.accounts.roles import SCOPES, Role, Scope
from app.accounts.tables import ApiKey, Organisation
from app.config import Settings
from app.db.base import seconds
from app.db.session import Database
from app.initial_data import FIRST_ORGANISATION
from tests.conftest import ADMIN_KEY, WORKER_KEY
from tests.support.apps import another_app
from tests.support.people import AUTH, JOBS, People, Person
from tests.support.problems import assert_problem
from tests.support.rows import nothing_written
from tests.support.runs import Stage
from tests.support.signals import listening, until_refused

KEYS = "/api/v1/keys"
ME = f"{AUTH}/me"


async def _me(http: httpx.AsyncClient, key: str) -> httpx.Response:
    return await http.get(ME, headers={"x-api-key": key})


async def test_create(people: People, http: httpx.AsyncClient, database: Database) -> None:
    """A new key works, is shown once, and is kept as a hash."""
    person = await people.make()
    made = await person.another_key(name="laptop", expires_in_days=90)
    assert made["key"].startswith(made["prefix"])
    assert made["username"] == person.username
    assert made["expires_at"] is not None
    me = (await _me(http, made["key"])).json()
    assert (me["id"], me["key_id"], me["scopes"]) == (str(person.id), made["id"], None)
    listed = (await person.client.get(f"{KEYS}/")).json()["items"]
    assert [key["name"] for key in listed] == ["laptop", "default"]
    assert all("key" not in key for key in listed)
    async with database.transaction() as session:
        row = await session.get_one(ApiKey, made["id"])
        assert made["key"] not in (row.key_hash, row.prefix)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/name"),
        ({"name": ""}, "/name"),
        ({"name": "\x1b[31m"}, "/name"),
        ({"name": "a", "scopes": []}, "/scopes"),
        ({"name": "a", "scopes": ["everything"]}, "/scopes/0"),
        ({"name": "a", "kind": "robot"}, "/kind"),
        ({"name": "a", "kind": "worker", "scopes": ["read"]}, "/scopes"),
        ({"name": "a", "expires_in_days": 0}, "/expires_in_days"),
        ({"name": "a", "expires_in_days": 10**10}, "/expires_in_days"),
        ({"name": "a", "key": "mine"}, "/key"),
    ],
)
async def test_bad_wishes(people: People, body: dict[str, Any], pointer: str) -> None:
    """What can't be a key is refused, and nothing is made."""
    person = await people.make(role=Role.ADMIN)
    answer = await person.client.post(f"{KEYS}/", json=body)
    assert_problem(answer, 422, "INVALID_REQUEST", pointer=pointer)


@pytest.fixture
async def tried(people: People, stage: Stage) -> dict[Scope, tuple[str, str, Any]]:
    """For each scope a request that needs no other one."""
    admin = await people.make(role=Role.ADMIN)
    waiting = await admin.job()
    body = {"model_id": "dreamfusion-sd", "prompt": "a teapot"}
    return {
        Scope.READ: ("GET", f"{JOBS}/", None),
        Scope.CREATE: ("POST", f"{JOBS}/", body),
        Scope.CONTROL: ("POST", f"{JOBS}/{waiting['id']}/cancel", None),
        Scope.MANAGE: ("GET", "/api/v1/users/", None),
    }


@pytest.mark.parametrize("scope", list(Scope))
async def test_scopes_narrow_the_role(
    people: People,
    http: httpx.AsyncClient,
    scope: Scope,
    tried: dict[Scope, tuple[str, str, Any]],
) -> None:
    """A key does what its scope says, and is told which scope the rest would need."""
    admin = await people.make(role=Role.ADMIN)
    key = await admin.another_key(scopes=[scope])
    headers = {"x-api-key": key["key"]}
    for needed, (method, url, body) in tried.items():
        answer = await http.request(method, url, json=body, headers=headers)
        if needed == scope:
            assert answer.status_code in {200, 201}, answer.text
        else:
            assert f"`{needed}`" in assert_problem(answer, 403, "FORBIDDEN")["detail"]


async def test_downloading_needs_its_scope(
    people: People, http: httpx.AsyncClient, stage: Stage
) -> None:
    """Reading alone gives no URLs of files; with both scopes it does."""
    owner = await people.make()
    job = await stage.succeeded(owner)
    urls = [f"{JOBS}/{job['id']}/{what}" for what in ("download", "artifacts", "artifacts/input")]
    reader = await owner.another_key(scopes=["read"])
    both = await owner.another_key(scopes=["read", "download"])
    for url in urls:
        answer = await http.get(url, headers={"x-api-key": reader["key"]})
        assert "`download`" in assert_problem(answer, 403, "FORBIDDEN")["detail"]
        answer = await http.get(url, headers={"x-api-key": both["key"]})
        assert answer.status_code == 200


async def test_scopes_do_not_widen_the_role(people: People, http: httpx.AsyncClient) -> None:
    """A viewer's key with every scope creates nothing."""
    viewer = await people.make(role=Role.VIEWER)
    key = await viewer.another_key(scopes=list(Scope))
    body = {"model_id": "dreamfusion-sd", "prompt": "a teapot"}
    answer = await http.post(f"{JOBS}/", json=body, headers={"x-api-key": key["key"]})
    assert "role" in assert_problem(answer, 403, "FORBIDDEN")["detail"]


async def test_keys_make_no_stronger_keys(
    people: People, http: httpx.AsyncClient, database: Database
) -> None:
    """A key with scopes makes and rotates only keys that may do no more than itself."""
    person = await people.make()
    whole = await person.another_key()
    key = await person.another_key(scopes=["manage", "read"])
    headers = {"x-api-key": key["key"]}
    async with nothing_written(database):
        for scopes in (None, ["create"], ["read", "create"]):
            body = {"name": "more", "scopes": scopes}
            answer = await http.post(f"{KEYS}/", json=body, headers=headers)
            assert "more scopes" in assert_problem(answer, 403, "FORBIDDEN")["detail"]
        answer = await http.post(f"{KEYS}/{whole['id']}/rotate", json={}, headers=headers)
        assert "more scopes" in assert_problem(answer, 403, "FORBIDDEN")["detail"]
    body = {"name": "less", "scopes": ["read"]}
    assert (await http.post(f"{KEYS}/", json=body, headers=headers)).status_code == 201


def test_every_permission_has_a_scope() -> None:
    """No permission is out of reach of scopes, or let through by none."""
    assert set(SCOPES.values()) == set(Scope)


async def test_key_without_the_scope_has_no_account(
    people: People, http: httpx.AsyncClient, database: Database
) -> None:
    """A key for reading neither makes keys nor ends sessions nor changes the password."""
    person = await people.make()
    key = await person.another_key(scopes=["read"])
    headers = {"x-api-key": key["key"]}
    passwords = {"current_password": "x", "new_password": "Battery-Staple-7"}
    async with nothing_written(database):
        for answer in (
            await http.get(f"{KEYS}/", headers=headers),
            await http.post(f"{KEYS}/", json={"name": "a"}, headers=headers),
            await http.delete(f"{KEYS}/{key['id']}", headers=headers),
            await http.post(f"{AUTH}/logout?everywhere=true", headers=headers),
            await http.post(f"{AUTH}/change-password", json=passwords, headers=headers),
        ):
            assert_problem(answer, 403, "FORBIDDEN")


async def test_revoked_at_once_everywhere(
    people: People, http: httpx.AsyncClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A revoked key is refused by all processes, by the signal alone; it stays in the list."""
    monkeypatch.setattr(authenticator, "CACHE_SECONDS", 3600.0)
    person = await people.make()
    key = await person.another_key()
    async with another_app(settings) as other:
        assert (await _me(other, key["key"])).status_code == 200
        assert (await _me(http, key["key"])).status_code == 200
        await listening(other)
        assert (await person.client.delete(f"{KEYS}/{key['id']}")).status_code == 204
        for client in (other, http):
            answer = await until_refused(lambda client=client: _me(client, key["key"]))
            assert_problem(answer, 401, "NOT_AUTHENTICATED")
    assert (await person.client.delete(f"{KEYS}/{key['id']}")).status_code == 204
    listed = (await person.client.get(f"{KEYS}/")).json()["items"]
    assert listed[0]["revoked_at"] is not None


async def test_rotate(people: People, http: httpx.AsyncClient) -> None:
    """Both keys work until the old one's grace is over; the new one is like it."""
    person = await people.make()
    old = await person.another_key(name="ci", scopes=["read"], expires_in_days=30)
    url = f"{KEYS}/{old['id']}/rotate"
    answer = await person.client.post(url, json={"grace_seconds": 3600})
    assert answer.status_code == 201
    new = answer.json()
    assert (new["name"], new["scopes"], new["rotated_from"]) == ("ci", ["read"], old["id"])
    assert new["expires_at"] >= old["expires_at"]
    assert (await _me(http, old["key"])).status_code == 200
    assert (await _me(http, new["key"])).status_code == 200
    again = await person.client.post(url, json={})
    assert "rotated already" in assert_problem(again, 409, "KEY_STATE_CONFLICT")["detail"]


async def test_rotate_without_grace(
    people: People, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without grace the old key is refused at once, although it was cached."""
    monkeypatch.setattr(authenticator, "CACHE_SECONDS", 3600.0)
    person = await people.make()
    old = await person.another_key()
    assert (await _me(http, old["key"])).status_code == 200
    answer = await person.client.post(f"{KEYS}/{old['id']}/rotate", json={"grace_seconds": 0})
    assert answer.status_code == 201
    refused = await until_refused(lambda: _me(http, old["key"]))
    assert_problem(refused, 401, "NOT_AUTHENTICATED")
    assert_problem(
        await person.client.post(f"{KEYS}/{old['id']}/rotate", json={}), 409, "KEY_STATE_CONFLICT"
    )


async def test_rotated_at_the_same_time(people: People) -> None:
    """Of several who rotate a key one gets the new one."""
    person = await people.make()
    old = await person.another_key()
    url = f"{KEYS}/{old['id']}/rotate"
    answers = await asyncio.gather(*(person.client.post(url, json={}) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]


async def test_rotated_by_itself(people: People, http: httpx.AsyncClient) -> None:
    """A machine can rotate its own key with it."""
    person = await people.make()
    old = await person.another_key()
    answer = await http.post(
        f"{KEYS}/{old['id']}/rotate", json={}, headers={"x-api-key": old["key"]}
    )
    assert (await _me(http, answer.json()["key"])).json()["id"] == str(person.id)


async def test_cached_key_expires_in_time(
    people: People, http: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key is not trusted longer for having been cached before it expired."""
    monkeypatch.setattr(authenticator, "CACHE_SECONDS", 3600.0)
    key = await (await people.make()).another_key()
    async with database.transaction() as session:
        await session.execute(
            update(ApiKey).where(ApiKey.id == key["id"]).values(expires_at=func.now() + seconds(2))
        )
    assert (await _me(http, key["key"])).status_code == 200
    assert_problem(await until_refused(lambda: _me(http, key["key"])), 401, "NOT_AUTHENTICATED")


async def test_too_many_keys(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user has only so many keys that work; a revoked one makes room."""
    monkeypatch.setattr(key_management, "MAX_KEYS", 3)
    person = await people.make()
    keys = [await person.another_key() for _ in range(2)]
    answer = await person.client.post(f"{KEYS}/", json={"name": "one more"})
    assert_problem(answer, 409, "TOO_MANY_KEYS")
    await person.client.delete(f"{KEYS}/{keys[0]['id']}")
    assert (await person.another_key())["key"]


async def test_admins_see_and_revoke_all_keys(people: People, http: httpx.AsyncClient) -> None:
    """Admins list and revoke the keys of their organisation, and get none of them into hands."""
    admin, person = await people.make(role=Role.ADMIN), await people.make()
    stranger = await people.make(organisation="Globex")
    key = await person.another_key()
    listed = (await admin.client.get(f"{KEYS}/", params={"everybody": True})).json()["items"]
    assert {item["username"] for item in listed} == {admin.username, person.username}
    assert stranger.username not in str(listed)
    assert_problem(
        await person.client.get(f"{KEYS}/", params={"everybody": True}), 403, "FORBIDDEN"
    )
    answer = await admin.client.post(f"{KEYS}/{key['id']}/rotate", json={})
    assert "owner" in assert_problem(answer, 403, "FORBIDDEN")["detail"]
    assert (await admin.client.delete(f"{KEYS}/{key['id']}")).status_code == 204
    answer = await until_refused(lambda: _me(http, key["key"]))
    assert_problem(answer, 401, "NOT_AUTHENTICATED")


async def test_pages_of_keys(people: People) -> None:
    """The list comes in pages, newest first."""
    person = await people.make()
    made = [(await person.another_key())["id"] for _ in range(3)]
    first = (await person.client.get(f"{KEYS}/", params={"limit": 2})).json()
    rest = (
        await person.client.get(f"{KEYS}/", params={"limit": 2, "cursor": first["next_cursor"]})
    ).json()
    seen = [key["id"] for key in first["items"] + rest["items"]]
    assert seen[:3] == made[::-1]
    assert rest["next_cursor"] is None


async def _worker_key_id(database: Database) -> str:
    async with database.transaction() as session:
        return str((await session.scalars(select(ApiKey.id).where(ApiKey.kind == "worker"))).one())


async def test_worker_keys_are_made_by_the_platforms_admins(
    people: People, http: httpx.AsyncClient, database: Database
) -> None:
    """GPU machines work for all, so only who runs the platform makes, sees and ends their keys."""
    platform = {"x-api-key": ADMIN_KEY}
    tenant = await people.make(role=Role.ADMIN)
    body = {"name": "gpu-7", "kind": "worker"}
    assert_problem(await tenant.client.post(f"{KEYS}/", json=body), 403, "FORBIDDEN")
    seeded = await _worker_key_id(database)
    assert_problem(await tenant.client.delete(f"{KEYS}/{seeded}"), 404, "KEY_NOT_FOUND")
    listed = (await tenant.client.get(f"{KEYS}/", params={"everybody": True})).json()["items"]
    assert {key["kind"] for key in listed} == {"user"}
    made = (await http.post(f"{KEYS}/", json=body, headers=platform)).json()
    assert made["key"].startswith("p3d_worker_")
    assert (made["user_id"], made["username"]) == (None, None)

    async def work(key: str) -> httpx.Response:
        return await http.post("/worker/v1/workers/heartbeat", headers={"x-api-key": key})

    assert_problem(await work(made["key"]), 422, "INVALID_REQUEST")  # let in; the body is missing
    assert_problem(await _me(http, made["key"]), 403, "FORBIDDEN")
    new = (
        await http.post(f"{KEYS}/{made['id']}/rotate", json={"grace_seconds": 0}, headers=platform)
    ).json()
    for _ in range(3000):
        answer = await work(made["key"])
        if answer.status_code == 401:
            break
        await asyncio.sleep(0.01)
    assert_problem(answer, 401, "NOT_AUTHENTICATED")
    assert_problem(await work(new["key"]), 422, "INVALID_REQUEST")
    everybody = (await http.get(f"{KEYS}/", params={"everybody": True}, headers=platform)).json()[
        "items"
    ]
    assert {key["kind"] for key in everybody} == {"user", "worker"}
    assert (await http.delete(f"{KEYS}/{new['id']}", headers=platform)).status_code == 204


async def test_seed_says_who_runs_the_platform(database: Database) -> None:
    """The organisation of the first admin runs the platform, and no other one."""
    async with database.transaction() as session:
        found = select(Organisation.name).where(Organisation.runs_platform)
        assert (await session.scalars(found)).all() == [FIRST_ORGANISATION]


async def _last_used(person: Person, key: dict[str, Any]) -> str | None:
    listed = (await person.client.get(f"{KEYS}/")).json()["items"]
    return next(item["last_used_at"] for item in listed if item["id"] == key["id"])


async def test_last_use_is_written_later(
    people: People, http: httpx.AsyncClient, app: Any, database: Database
) -> None:
    """A use is noted without a statement, written once a minute, and told in the list."""
    person = await people.make()
    key = await person.another_key()
    uses = app.state.authenticator.key_uses
    await uses.write()
    assert await _last_used(person, key) is None
    await _me(http, key["key"])
    await uses.write()
    first = await _last_used(person, key)
    assert first is not None
    await _me(http, key["key"])
    await uses.write()
    assert await _last_used(person, key) == first
    async with database.transaction() as session:
        await session.execute(update(ApiKey).values(last_used_at=func.now() - seconds(61)))
    await _me(http, key["key"])
    await uses.write()
    now = await _last_used(person, key)
    assert now is not None
    assert now > first


async def test_last_use_is_written_at_the_end(
    people: People, settings: Settings, worker: Any
) -> None:
    """What a process has noted is written before it ends, of workers' keys, too."""
    person = await people.make()
    key = await person.another_key()
    async with another_app(settings) as other:
        await _me(other, key["key"])
        await other.post("/worker/v1/workers/heartbeat", headers={"x-api-key": WORKER_KEY})
    assert await _last_used(person, key) is not None


async def test_viewers_download_by_setting(
    people: People, settings: Settings, stage: Stage
) -> None:
    """Where the setting says so viewers see jobs and previews, but get no files."""
    owner, viewer = await people.make(), await people.make(role=Role.VIEWER)
    job = await stage.succeeded(owner)
    headers = {"x-api-key": viewer.key}
    async with another_app(settings, viewers_may_download=False) as http:
        assert (await http.get(f"{JOBS}/{job['id']}", headers=headers)).status_code == 200
        for what in ("download", "artifacts", "artifacts/model_3d"):
            answer = await http.get(f"{JOBS}/{job['id']}/{what}", headers=headers)
            assert "viewer" in assert_problem(answer, 403, "FORBIDDEN")["detail"]
            answer = await http.get(f"{JOBS}/{job['id']}/{what}", headers={"x-api-key": owner.key})
            assert answer.status_code == 200
    assert (await viewer.client.get(f"{JOBS}/{job['id']}/download")).status_code == 200
