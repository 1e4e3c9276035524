"""The audit trail: what is written when, who reads it, and that nobody can change it."""

from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from app.accounts.roles import Role
from app.audit.service import Action
from app.audit.tables import AuditEvent
from app.config import Settings
from app.db.session import Database
from tests.support.apps import another_app
from tests.support.outbox import WEBHOOKS
from tests.support.people import AUTH, JOBS, PASSWORD, People, Person
from tests.support.problems import assert_problem
from tests.support.runs import Stage

AUDIT = "/api/v1/audit"
NOTIFICATIONS = "/api/v1/notifications"
USERS, KEYS = "/api/v1/users", "/api/v1/keys"


async def _events(admin: Person, **filters: Any) -> list[dict[str, Any]]:
    answer = await admin.client.get(f"{AUDIT}/", params=filters)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


async def _actions(admin: Person, **filters: Any) -> list[str]:
    return [event["action"] for event in await _events(admin, **filters)]


async def test_log_ins(people: People, http: httpx.AsyncClient, settings: Settings) -> None:
    """Log-ins that failed and that did not, the lock, and the log-out: who, from where, when."""
    admin, person = await people.make(role=Role.ADMIN), await people.make()
    tokens = await person.log_in()
    headers = {"authorization": f"Bearer {tokens['access_token']}", "x-request-id": "my-request"}
    session_id = (await http.get(f"{AUTH}/me", headers=headers)).json()["session_id"]
    await http.post(f"{AUTH}/logout", headers=headers)
    for _ in range(settings.login_max_failures + 3):
        await http.post(f"{AUTH}/login", json={"username": person.username, "password": "x"})
    events = await _events(admin, target_id=person.id)
    failed = [Action.LOGIN_FAILED] * (settings.login_max_failures - 1)
    assert [event["action"] for event in events] == [
        Action.LOGIN_LOCKED,
        Action.LOGIN_FAILED,
        *failed,
        Action.LOGIN_SUCCEEDED,
    ]
    succeeded, first_failed = events[-1], events[-2]
    assert (succeeded["actor_id"], succeeded["actor_name"]) == (str(person.id), person.username)
    assert succeeded["credential_id"] == session_id
    assert succeeded["address"] == "127.0.0.1"
    assert (first_failed["actor_id"], first_failed["actor_name"]) == (None, person.username)
    [ended] = await _events(admin, target_id=session_id)
    assert (ended["action"], ended["request_id"]) == (Action.SESSION_ENDED, "my-request")


async def test_unknown_names_are_nobodys(
    people: People, http: httpx.AsyncClient, database: Database
) -> None:
    """A log-in of a name that nobody has is in no organisation's trail, and the name in none."""
    admin = await people.make(role=Role.ADMIN)
    body = {"username": "Typed-Password-1", "password": PASSWORD}
    await http.post(f"{AUTH}/login", json=body, headers={"x-request-id": "nobody-has-this"})
    assert await _actions(admin, action="login.*") == []
    async with database.transaction() as session:
        found = select(AuditEvent).where(AuditEvent.request_id == "nobody-has-this")
        [event] = (await session.scalars(found)).all()
    assert (event.action, event.organisation_id) == (Action.LOGIN_FAILED, None)
    assert (event.actor_name, event.data) == ("unknown", {})


async def test_keys(people: People) -> None:
    """Keys that were made, rotated and revoked, never the key itself."""
    admin, person = await people.make(role=Role.ADMIN), await people.make()
    key = await person.another_key(name="ci", scopes=["read"])
    new = (await person.client.post(f"{KEYS}/{key['id']}/rotate", json={})).json()
    await admin.client.delete(f"{KEYS}/{new['id']}")
    revoked, rotated, created = await _events(admin, action="key.*")
    assert created["data"] == {
        "name": "ci",
        "kind": "user",
        "prefix": key["prefix"],
        "scopes": ["read"],
    }
    assert (created["action"], created["actor_id"]) == (Action.KEY_CREATED, str(person.id))
    assert (rotated["action"], rotated["target_id"]) == (Action.KEY_ROTATED, new["id"])
    assert rotated["data"]["rotated_from"] == key["id"]
    assert (revoked["action"], revoked["actor_id"]) == (Action.KEY_REVOKED, str(admin.id))
    assert key["key"] not in str([created, rotated, revoked])


async def test_people(people: People) -> None:
    """Who made whom, with which role, and what was changed afterwards."""
    admin = await people.make(role=Role.ADMIN)
    made = (await admin.client.post(f"{USERS}/", json={"username": "grace"})).json()
    for change in (
        {"role": "viewer"},
        {"role": "viewer"},
        {"is_active": False},
        {"is_active": True, "email": "grace@example.org"},
        {"password": "Battery-Staple-7"},
    ):
        answer = await admin.client.patch(f"{USERS}/{made['id']}", json=change)
        assert answer.status_code == 200
    events = await _events(admin, target_id=made["id"])
    assert [event["action"] for event in reversed(events)] == [
        Action.USER_CREATED,
        Action.ROLE_CHANGED,
        Action.USER_DEACTIVATED,
        Action.USER_REACTIVATED,
        Action.USER_CHANGED,
        Action.PASSWORD_CHANGED,
    ]
    assert events[-2]["data"] == {"username": "grace", "before": "operator", "after": "viewer"}
    assert {event["actor_id"] for event in events} == {str(admin.id)}
    assert "Battery" not in str(events)


async def test_files(people: People, stage: Stage) -> None:
    """Whoever is given URLs of files, by every route; what is refused is not a download."""
    admin, owner = await people.make(role=Role.ADMIN), await people.make()
    job = await stage.succeeded(owner)
    await owner.client.get(f"{JOBS}/{job['id']}/download")
    await owner.client.get(f"{JOBS}/{job['id']}/artifacts/input")
    listed = (await owner.client.get(f"{JOBS}/{job['id']}/artifacts")).json()["items"]
    await (await people.make()).client.get(f"{JOBS}/{job['id']}/download")
    await owner.client.get(f"{JOBS}/{job['id']}/artifacts/video")
    every, one, main = await _events(admin, target_id=job["id"])
    assert {event["action"] for event in (every, one, main)} == {Action.FILE_LINKED}
    assert main["data"] == {"files": ["model.glb"]}
    assert one["data"] == {"files": ["picture.png"]}
    assert every["data"] == {"files": [item["name"] for item in listed]}
    assert main["actor_id"] == str(owner.id)


async def test_webhooks(people: People) -> None:
    """Where messages go and who can sign them: what was changed, never a whole URL or a secret."""
    admin, person = await people.make(role=Role.ADMIN), await people.make()
    url = "https://hooks.example.com/token-in-the-path?token=7"
    made = (await person.client.post(f"{WEBHOOKS}/", json={"url": url})).json()
    path = f"{WEBHOOKS}/{made['id']}"
    rotated = (await person.client.post(f"{path}/rotate-secret")).json()
    for change in (
        {"url": "https://other.example.com/token-in-the-path", "events": ["job.failed"]},
        {"events": ["job.failed"], "enabled": True},  # as it is
        {"enabled": False},
    ):
        assert (await admin.client.patch(path, json=change)).status_code == 200
    assert_problem(
        await person.client.patch(path, json={"url": "https://10.0.0.1/", "description": "x"}),
        422,
        "DESTINATION_REFUSED",
    )
    assert (await person.client.delete(path)).status_code == 204
    events = list(reversed(await _events(admin, target_id=made["id"])))
    assert [event["action"] for event in events] == [
        Action.WEBHOOK_CREATED,
        Action.WEBHOOK_SECRET_ROTATED,
        Action.WEBHOOK_CHANGED,
        Action.WEBHOOK_CHANGED,
        Action.WEBHOOK_DELETED,
    ]
    created, _, moved, disabled, deleted = events
    assert created["data"] == {
        "host": "hooks.example.com",
        "owner": str(person.id),
        "events": made["events"],
    }
    assert moved["actor_id"] == str(admin.id)
    assert moved["data"]["host"] == "other.example.com"
    assert moved["data"]["changed"] == ["url", "events"]
    assert (disabled["data"]["changed"], disabled["data"]["enabled"]) == (["enabled"], False)
    assert deleted["actor_id"] == str(person.id)
    for secret in (made["secret"], rotated["secret"], "token"):
        assert secret not in str(events)


async def test_callbacks_and_preferences(people: People, database: Database) -> None:
    """A new secret of callbacks, and another wish for e-mail; saying the same again is none."""
    admin = await people.make(role=Role.ADMIN)
    async with database.transaction() as session:
        await session.execute(text("INSERT INTO delivery_channels (name) VALUES ('email')"))
        await session.execute(
            text("UPDATE users SET email = 'a@example.org' WHERE id = :id"), {"id": admin.id}
        )
    secret = (await admin.client.post(f"{NOTIFICATIONS}/callback-secret")).json()["secret"]
    for email in ("all", "all", "off", "off"):
        answer = await admin.client.patch(NOTIFICATIONS, json={"email": email})
        assert answer.status_code == 200, answer.text
    off, on, rotated = await _events(admin, target_id=admin.id)
    assert rotated["action"] == Action.CALLBACK_SECRET_ROTATED
    assert secret not in str(rotated)
    assert {on["action"], off["action"]} == {Action.PREFERENCES_CHANGED}
    assert on["data"] == {"before": "off", "after": "all"}
    assert off["data"] == {"before": "all", "after": "off"}


async def test_wrong_password_of_ones_own(people: People) -> None:
    """Whoever has a key or token and guesses the password is on record, too."""
    admin = await people.make(role=Role.ADMIN)
    body = {"current_password": "x", "new_password": "Battery-Staple-7"}
    await admin.client.post(f"{AUTH}/change-password", json=body)
    [event] = await _events(admin)
    assert (event["action"], event["actor_id"]) == (Action.LOGIN_FAILED, str(admin.id))


async def test_reused_token(people: People, http: httpx.AsyncClient) -> None:
    """A refresh token that was used twice is on record with the address that did it."""
    admin, person = await people.make(role=Role.ADMIN), await people.make()
    tokens = await person.log_in()
    for _ in range(3):
        await http.post(f"{AUTH}/refresh", json={"refresh_token": tokens["refresh_token"]})
    [event] = await _events(admin, action="session.*")
    assert (event["action"], event["actor_name"]) == (Action.TOKEN_REUSED, person.username)
    assert event["address"] == "127.0.0.1"


async def test_nothing_is_recorded_of_what_did_not_happen(people: People) -> None:
    """An event is in the transaction of its cause: refused, it is gone with it."""
    admin = await people.make(role=Role.ADMIN)
    answer = await admin.client.patch(
        f"{USERS}/{admin.id}", json={"email": "a@example.org", "role": "viewer"}
    )
    assert_problem(answer, 409, "LAST_ADMIN")
    await admin.client.post(f"{USERS}/", json={"username": "grace"})
    await admin.client.post(f"{USERS}/", json={"username": "grace"})
    assert await _actions(admin) == [Action.USER_CREATED]


async def test_forwarded_address(people: People, settings: Settings, database: Database) -> None:
    """The address is the proxy's unless the setting says that there is one."""
    admin = await people.make(role=Role.ADMIN)
    headers = {"x-api-key": admin.key, "x-forwarded-for": "203.0.113.9, 192.0.2.1"}
    for trusted, expected in ((0, "127.0.0.1"), (1, "192.0.2.1"), (2, "203.0.113.9")):
        async with another_app(settings, trusted_proxies=trusted) as http:
            await http.post(f"{KEYS}/", json={"name": "a"}, headers=headers)
        assert (await _events(admin, action="key.created"))[0]["address"] == expected


async def test_filters_and_pages(people: People) -> None:
    """Events are found by action, actor, address and time, in pages, newest first."""
    admin, other = [await people.make(role=Role.ADMIN) for _ in range(2)]
    for person in (admin, other, admin):
        await person.another_key()
    assert len(await _events(admin, actor_id=other.id)) == 1
    assert len(await _events(admin, action="key.created", address="127.0.0.1")) == 3
    assert await _events(admin, address="192.0.2.1") == []
    assert await _events(admin, action="key") == []
    newest = (await _events(admin))[0]
    assert len(await _events(admin, created_before=newest["created_at"])) == 2
    assert await _events(admin, created_after=newest["created_at"]) == []
    first = (await admin.client.get(f"{AUDIT}/", params={"limit": 2})).json()
    rest = await admin.client.get(f"{AUDIT}/", params={"limit": 2, "cursor": first["next_cursor"]})
    assert rest.json()["next_cursor"] is None
    ids = [UUID(event["id"]) for event in first["items"] + rest.json()["items"]]
    assert ids == sorted(set(ids), reverse=True)
    assert len(ids) == 3


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ({"action": "%"}, "/query/action"),
        ({"action": "x" * 65}, "/query/action"),
        ({"actor_id": "me"}, "/query/actor_id"),
        ({"address": "'; --"}, "/query/address"),
        ({"created_after": "yesterday"}, "/query/created_after"),
        ({"limit": 101}, "/query/limit"),
        ({"organisation_id": "x"}, "/query/organisation_id"),
    ],
)
async def test_bad_filters(people: People, query: dict[str, Any], pointer: str) -> None:
    """What can't be a filter is named."""
    admin = await people.make(role=Role.ADMIN)
    answer = await admin.client.get(f"{AUDIT}/", params=query)
    assert_problem(answer, 422, "INVALID_REQUEST", pointer=pointer)


async def test_admins_of_the_own_organisation_only(people: People) -> None:
    """Nobody but an admin reads the trail, and no admin another organisation's."""
    person, viewer = await people.make(), await people.make(role=Role.VIEWER)
    await person.another_key()
    for refused in (person, viewer):
        assert_problem(await refused.client.get(f"{AUDIT}/"), 403, "FORBIDDEN")
    stranger = await people.make(role=Role.ADMIN, organisation="Globex")
    assert await _events(stranger) == []
    assert await _events(stranger, actor_id=person.id) == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_events SET actor_name = 'nobody'",
        "UPDATE audit_events SET data = '{}' WHERE false",
        "DELETE FROM audit_events",
        "TRUNCATE audit_events",
    ],
)
async def test_append_only(database: Database, statement: str) -> None:
    """The database itself refuses to change or delete what was written, whoever asks."""
    with pytest.raises(DBAPIError, match="append-only"):
        async with database.transaction() as session:
            await session.execute(text(statement))
