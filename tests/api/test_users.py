"""People: registering, and how admins manage who is in their organisation."""

import asyncio
import json
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import func, select

from app.accounts.roles import Role
from app.accounts.tables import Organisation, User
from app.config import Settings
from app.db.session import Database
from tests.support.apps import another_app
from tests.support.people import AUTH, JOBS, PASSWORD, People, Person
from tests.support.problems import assert_problem
from tests.support.rows import nothing_written
from tests.support.signals import until_refused

USERS = "/api/v1/users"
ADA = {"username": "ada", "email": "ada@example.org", "password": PASSWORD}


async def test_registration_is_closed(http: httpx.AsyncClient, database: Database) -> None:
    """Unless a setting opens it, nobody can make themselves an account."""
    async with nothing_written(database):
        answer = await http.post(f"{AUTH}/register", json=ADA)
    assert "admin" in assert_problem(answer, 403, "REGISTRATION_CLOSED")["detail"]


async def test_register(settings: Settings, database: Database) -> None:
    """Whoever registers is the admin of a new organisation, with nothing in it but themselves."""
    async with another_app(settings, registration_open=True) as http:
        answer = await http.post(f"{AUTH}/register", json={**ADA, "organisation": "Analysts"})
        assert answer.status_code == 201, answer.text
        assert "password" not in answer.json()
        login = {"username": "ada@example.org", "password": PASSWORD}
        tokens = (await http.post(f"{AUTH}/login", json=login)).json()
        headers = {"authorization": f"Bearer {tokens['access_token']}"}
        me = (await http.get(f"{AUTH}/me", headers=headers)).json()
        assert (me["username"], me["role"]) == ("ada", "admin")
        assert me["organisation"]["name"] == "Analysts"
        assert "manage_worker_keys" not in me["permissions"]
        people = (await http.get(f"{USERS}/", headers=headers)).json()["items"]
        assert [person["username"] for person in people] == ["ada"]
        assert (await http.get(f"{JOBS}/", headers=headers)).json()["items"] == []


@pytest.mark.parametrize(
    "other",
    [
        {"username": "\uff21\uff24\uff21", "organisation": "Other"},
        {"username": "bob", "email": "ADA@example.org"},
        {"username": "bob", "organisation": "Analysts"},
    ],
)
async def test_taken_names(settings: Settings, database: Database, other: dict[str, str]) -> None:
    """A name that somebody has, in whatever spelling, is refused and leaves nothing behind."""
    async with another_app(settings, registration_open=True) as http:
        answer = await http.post(f"{AUTH}/register", json={**ADA, "organisation": "Analysts"})
        assert answer.status_code == 201
        async with nothing_written(database):
            answer = await http.post(f"{AUTH}/register", json={"password": PASSWORD, **other})
        assert_problem(answer, 409, "ACCOUNT_EXISTS")


async def test_registered_at_the_same_time(settings: Settings, database: Database) -> None:
    """Of several who want the same name one gets it, and the others are told."""
    async with another_app(settings, registration_open=True) as http:
        answers = await asyncio.gather(*(http.post(f"{AUTH}/register", json=ADA) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
    async with database.transaction() as session:
        named = select(func.count()).select_from(Organisation).where(Organisation.name == "ada")
        assert (await session.execute(named)).scalar_one() == 1


async def test_registering_is_throttled(settings: Settings, database: Database) -> None:
    """One address can't make accounts without end."""
    limits: dict[str, Any] = {"registration_open": True, "login_max_failures_per_address": 2}
    async with another_app(settings, **limits) as http:
        codes = [
            (await http.post(f"{AUTH}/register", json={**ADA, "username": name, "email": None}))
            for name in ("a", "b", "c")
        ]
    assert [answer.status_code for answer in codes] == [201, 201, 429]


@pytest.mark.parametrize(
    ("change", "pointer", "said"),
    [
        ({"password": "short"}, "/password", "8 characters, an upper-case letter, a digit"),
        ({"password": "lower-case-9"}, "/password", "an upper-case letter"),
        ({"password": "No-Digits-here"}, "/password", "a digit"),
        ({"password": "NoSpecial999"}, "/password", "a special character"),
        ({"password": "A1-" + "x" * 1022}, "/password", "1024"),
        ({"username": "a b"}, "/username", "letters, digits"),
        ({"username": "ada@example.org"}, "/username", "letters, digits"),
        ({"username": "\u202eada"}, "/username", "letters, digits"),
        ({"username": "-ada"}, "/username", "begin"),
        ({"username": ""}, "/username", "at least 1"),
        ({"username": "a\x00"}, "/username", "stored"),
        ({"email": "ada"}, "/email", "@"),
        ({"email": "ada@"}, "/email", "@"),
        ({"email": "ada@exa mple.org"}, "/email", "SPACE"),
        ({"email": "a@b.org\r\nBcc: all@b.org"}, "/email", ""),
        ({"organisation": "\x07"}, "/organisation", "control"),
        ({"role": "admin"}, "/role", "not permitted"),
    ],
)
async def test_bad_registrations(
    settings: Settings, database: Database, change: dict[str, str], pointer: str, said: str
) -> None:
    """What is wrong with a name or a password is said, and nothing is made."""
    content = json.dumps({**ADA, **change})
    headers = {"content-type": "application/json"}
    async with another_app(settings, registration_open=True) as http, nothing_written(database):
        answer = await http.post(f"{AUTH}/register", content=content, headers=headers)
    problem = assert_problem(answer, 422, "INVALID_REQUEST", pointer=pointer)
    assert said in problem["detail"]
    assert change.get("password", PASSWORD) not in answer.text


async def test_admin_makes_a_colleague(people: People, http: httpx.AsyncClient) -> None:
    """A colleague gets a password to begin with, shown once, and is in the same organisation."""
    admin = await people.make(role=Role.ADMIN)
    answer = await admin.client.post(
        f"{USERS}/", json={"username": "Grace", "email": "grace@example.org", "role": "viewer"}
    )
    assert answer.status_code == 201
    made = answer.json()
    assert (made["username"], made["role"], made["is_active"]) == ("grace", "viewer", True)
    login = {"username": "grace", "password": made["password"]}
    assert (await http.post(f"{AUTH}/login", json=login)).status_code == 200
    seen = (await admin.client.get(f"{USERS}/{made['id']}")).json()
    assert seen == {name: value for name, value in made.items() if name != "password"}
    again = await admin.client.post(f"{USERS}/", json={"username": "GRACE"})
    assert_problem(again, 409, "ACCOUNT_EXISTS")


async def test_chosen_password_is_not_answered(people: People, http: httpx.AsyncClient) -> None:
    """A password that the admin chose works, and does not come back."""
    admin = await people.make(role=Role.ADMIN)
    body = {"username": "grace", "password": "Battery-Staple-7"}
    answer = await admin.client.post(f"{USERS}/", json=body)
    assert answer.json()["password"] is None
    assert "Battery" not in answer.text
    assert (await http.post(f"{AUTH}/login", json=body)).status_code == 200


async def test_pages_of_people(people: People) -> None:
    """The list is newest first, in pages, and of the own organisation only."""
    admin = await people.make(role=Role.ADMIN)
    others = [await people.make() for _ in range(4)]
    await people.make(organisation="Globex")
    seen: list[str] = []
    cursor = None
    while True:
        query = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        page = (await admin.client.get(f"{USERS}/", params=query)).json()
        seen += [person["username"] for person in page["items"]]
        cursor = page["next_cursor"]
        if not cursor:
            break
    assert seen == [person.username for person in reversed([admin, *others])]
    assert_problem(
        await admin.client.get(f"{USERS}/", params={"cursor": "x"}), 422, "INVALID_REQUEST"
    )


async def test_role_changes_at_once(people: People) -> None:
    """A new role counts with the next request, also of a principal that was cached."""
    admin, person = await people.make(role=Role.ADMIN), await people.make()
    ticket = {"filename": "a.png", "content_type": "image/png"}

    async def ask() -> httpx.Response:
        return await person.client.post(f"{JOBS}/upload-ticket", json=ticket)

    assert (await ask()).status_code == 200
    answer = await admin.client.patch(f"{USERS}/{person.id}", json={"role": "viewer"})
    assert answer.json()["role"] == "viewer"
    assert_problem(await until_refused(ask), 403, "FORBIDDEN")


async def test_deactivated_keys_are_refused_at_once(people: People) -> None:
    """The keys of somebody who was deactivated are refused, and work again once they are back."""
    admin, person = await people.make(role=Role.ADMIN), await people.make()
    assert (await person.client.get(f"{AUTH}/me")).status_code == 200
    await admin.client.patch(f"{USERS}/{person.id}", json={"is_active": False})
    answer = await until_refused(lambda: person.client.get(f"{AUTH}/me"))
    assert_problem(answer, 401, "NOT_AUTHENTICATED")
    await admin.client.patch(f"{USERS}/{person.id}", json={"is_active": True})
    assert (await person.client.get(f"{AUTH}/me")).status_code == 200


async def test_admin_resets_a_password(people: People, http: httpx.AsyncClient) -> None:
    """With another password somebody is logged out; one's own is changed elsewhere."""
    admin, person = await people.make(role=Role.ADMIN), await people.make()
    tokens = await person.log_in()
    body = {"password": "Battery-Staple-7"}
    assert (await admin.client.patch(f"{USERS}/{person.id}", json=body)).status_code == 200
    answer = await http.post(f"{AUTH}/refresh", json={"refresh_token": tokens["refresh_token"]})
    assert_problem(answer, 401, "REFRESH_REFUSED")
    login = {"username": person.username, **body}
    assert (await http.post(f"{AUTH}/login", json=login)).status_code == 200
    answer = await admin.client.patch(f"{USERS}/{admin.id}", json=body)
    assert "change-password" in assert_problem(answer, 403, "FORBIDDEN")["detail"]


@pytest.mark.parametrize("change", [{"role": "operator"}, {"is_active": False}])
async def test_last_admin_stays(people: People, change: dict[str, Any]) -> None:
    """An organisation always has an active admin; a second one may go."""
    admin = await people.make(role=Role.ADMIN)
    inactive = await people.make(role=Role.ADMIN)
    url = f"{USERS}/{admin.id}"
    await admin.client.patch(f"{USERS}/{inactive.id}", json={"is_active": False})
    assert_problem(await admin.client.patch(url, json=change), 409, "LAST_ADMIN")
    await admin.client.patch(f"{USERS}/{inactive.id}", json={"is_active": True})
    assert (await admin.client.patch(url, json=change)).status_code == 200


async def test_two_admins_who_demote_each_other(people: People, database: Database) -> None:
    """At the same time only one of them succeeds."""
    one, other = [await people.make(role=Role.ADMIN) for _ in range(2)]

    async def demote(by: Person, whom: Person) -> int:
        url = f"{USERS}/{whom.id}"
        return (await by.client.patch(url, json={"role": "viewer"})).status_code

    codes = await asyncio.gather(demote(one, other), demote(other, one))
    assert sorted(codes) in ([200, 403], [200, 409])
    async with database.transaction() as session:
        organisation = (await session.get_one(User, one.id)).organisation_id
        admins = select(func.count()).where(
            User.organisation_id == organisation, User.role == Role.ADMIN, User.is_active
        )
        assert (await session.execute(admins)).scalar_one() == 1


async def test_email_of_somebody_else(people: People, database: Database) -> None:
    """An e-mail address is one person's; who asks for another's is told and nothing changes."""
    admin, person = await people.make(role=Role.ADMIN), await people.make()
    body = {"email": "ada@example.org"}
    assert (await admin.client.patch(f"{USERS}/{person.id}", json=body)).status_code == 200
    again = await admin.client.patch(
        f"{USERS}/{admin.id}", json={"email": "ADA@example.org", "is_active": True}
    )
    assert_problem(again, 409, "ACCOUNT_EXISTS")


async def test_other_organisations_do_not_exist(people: People, database: Database) -> None:
    """Admins of one organisation neither see nor change anybody of another."""
    admin = await people.make(role=Role.ADMIN)
    stranger = await people.make(organisation="Globex")
    unknown = UUID("01a1f888-73af-74cc-b052-31987fc97afa")
    async with nothing_written(database):
        for user_id in (stranger.id, unknown):
            url = f"{USERS}/{user_id}"
            assert_problem(await admin.client.get(url), 404, "USER_NOT_FOUND")
            answer = await admin.client.patch(url, json={"is_active": False})
            assert_problem(answer, 404, "USER_NOT_FOUND")
    assert (await stranger.client.get(f"{AUTH}/me")).status_code == 200
