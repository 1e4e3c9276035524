"""Sessions: logging in, staying logged in, logging out, the own password."""

import asyncio
import base64
import json
from typing import Any

import httpx
import jwt
import pytest
from sqlalchemy import func, select, update

from app.accounts import authenticator
from app.accounts.roles import Permission, Role
from app.accounts.tables import User
from app.config import Settings
from app.db.base import seconds
from app.db.session import Database
from app.sessions.retention import forget_sessions
from app.sessions.tables import EndReason, LoginSession, RefreshToken
from app.sessions.tokens import AccessTokens
from tests.support.apps import another_app
from tests.support.people import AUTH, JOBS, PASSWORD, People
from tests.support.problems import assert_problem
from tests.support.signals import listening, until_refused

ME = f"{AUTH}/me"


def _bearer(tokens: dict[str, Any]) -> dict[str, str]:
    return {"authorization": f"Bearer {tokens['access_token']}"}


async def _ask(http: httpx.AsyncClient, tokens: dict[str, Any]) -> httpx.Response:
    return await http.get(ME, headers=_bearer(tokens))


async def _refresh(http: httpx.AsyncClient, token: str) -> httpx.Response:
    return await http.post(f"{AUTH}/refresh", json={"refresh_token": token})


async def _session(database: Database, tokens: dict[str, Any]) -> LoginSession:
    claims = jwt.decode(tokens["access_token"], options={"verify_signature": False})
    async with database.transaction() as session:
        return await session.get_one(LoginSession, claims["sid"])


async def test_log_in(people: People, http: httpx.AsyncClient) -> None:
    """Whoever logs in gets tokens, and is known by the access token."""
    person = await people.make(role=Role.VIEWER)
    tokens = await person.log_in()
    assert tokens["token_type"] == "Bearer"
    assert tokens["expires_in"] == 3600
    assert tokens["refresh_expires_in"] == 7 * 86400
    answer = await _ask(http, tokens)
    assert answer.status_code == 200
    me = answer.json()
    assert me["id"] == str(person.id)
    assert me["organisation"]["name"] == "Acme"
    assert me["role"] == "viewer"
    assert me["session_id"] is not None
    assert me["key_id"] is None
    assert Permission.CREATE_JOBS not in me["permissions"]


async def test_name_in_any_spelling(people: People, http: httpx.AsyncClient) -> None:
    """Upper and lower case, full width and blanks around a name are the same name."""
    person = await people.make()
    wide = "".join(chr(ord(letter) + 0xFEE0) for letter in person.username.upper())
    for name in (person.username.upper(), wide, f" {person.username} "):
        body = {"username": name, "password": PASSWORD}
        assert (await http.post(f"{AUTH}/login", json=body)).status_code == 200, name


async def test_log_in_by_email(people: People, http: httpx.AsyncClient, database: Database) -> None:
    """An e-mail address does for the name, in any case."""
    person = await people.make()
    async with database.transaction() as session:
        (await session.get_one(User, person.id)).email = "ada@example.org"
    for address in ("ada@example.org", "Ada@EXAMPLE.org"):
        body = {"username": address, "password": PASSWORD}
        answer = await http.post(f"{AUTH}/login", json=body)
        assert answer.status_code == 200
        assert (await _ask(http, answer.json())).json()["email"] == "ada@example.org"


@pytest.mark.parametrize("route", ["poll", "list", "create"])
async def test_access_token_is_good_wherever_a_key_is(
    people: People, http: httpx.AsyncClient, route: str
) -> None:
    """The routes, and the shortcuts past them, take an access token."""
    person = await people.make()
    job = await person.job(model_id="dreamfusion-sd", input_params={}, prompt="a teapot")
    headers = _bearer(await person.log_in())
    body = {"model_id": "dreamfusion-sd", "prompt": "a teapot"}
    answer = {
        "poll": lambda: http.get(f"{JOBS}/{job['id']}", headers=headers),
        "list": lambda: http.get(f"{JOBS}/", headers=headers),
        "create": lambda: http.post(f"{JOBS}/", headers=headers, json=body),
    }[route]
    assert (await answer()).status_code in {200, 201}


async def test_key_comes_first(people: People, http: httpx.AsyncClient) -> None:
    """With both, the key alone counts: a bad one is refused although the token is good."""
    one, other = await people.make(), await people.make()
    headers = _bearer(await one.log_in())
    answer = await http.get(ME, headers={**headers, "x-api-key": other.key})
    assert answer.json()["id"] == str(other.id)
    answer = await http.get(ME, headers={**headers, "x-api-key": "wrong"})
    assert_problem(answer, 401, "NOT_AUTHENTICATED")


def _forged(settings: Settings, how: str, good: str) -> str:
    """An access token that somebody made who has no key, or that was meant for something else."""
    key = AccessTokens(settings)._key
    claims = jwt.decode(good, options={"verify_signature": False})
    header, payload, signature = good.split(".")

    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    def signed(**changes: Any) -> str:
        changed = {name: value for name, value in {**claims, **changes}.items() if value != ""}
        return jwt.encode(changed, key, "HS256", headers={"typ": "at+jwt"})

    return {
        "none": lambda: f"{part({'alg': 'none', 'typ': 'at+jwt'})}.{payload}.",
        "none_signed": lambda: f"{part({'alg': 'none', 'typ': 'at+jwt'})}.{payload}.{signature}",
        "HS512": lambda: jwt.encode(claims, key * 2, "HS512", headers={"typ": "at+jwt"}),
        "other_type": lambda: jwt.encode(claims, key, "HS256"),
        "other_key": lambda: jwt.encode(claims, b"x" * 32, "HS256", headers={"typ": "at+jwt"}),
        "secret_itself": lambda: jwt.encode(
            claims, settings.secret_key.get_secret_value(), "HS256", headers={"typ": "at+jwt"}
        ),
        "other_payload": lambda: f"{header}.{part({**claims, 'sub': claims['sid']})}.{signature}",
        "issuer": lambda: signed(iss="somebody"),
        "audience": lambda: signed(aud="something"),
        "audiences": lambda: signed(aud=["pipeline3d-api"]),
        "no_expiry": lambda: signed(exp=""),
        "no_session": lambda: signed(sid=""),
        "no_id": lambda: signed(jti=""),
        "other_user": lambda: signed(sub="01a1f888-73af-74cc-b052-31987fc97afa"),
        "other_session": lambda: signed(sid="01a1f888-73af-74cc-b052-31987fc97afa"),
        "user_is_no_id": lambda: signed(sub="me"),
        "session_is_a_number": lambda: signed(sid=7),
        "expiry_is_text": lambda: signed(exp="soon"),
        "issued_tomorrow": lambda: signed(iat=claims["iat"] + 86400),
        "truncated": lambda: good[:-4],
        "endless": lambda: "x" * 10_000,
        "dots": lambda: "a.b.c",
        "latin": lambda: "\xff.\xff.\xff",
    }[how]()


@pytest.mark.parametrize(
    "how",
    [
        *("none", "none_signed", "HS512", "other_type", "other_key", "secret_itself"),
        *("other_payload", "issuer", "audience", "audiences", "no_expiry", "no_session", "no_id"),
        *("other_user", "other_session", "user_is_no_id", "session_is_a_number"),
        *("expiry_is_text", "issued_tomorrow", "truncated", "endless", "dots", "latin"),
    ],
)
async def test_forged_tokens(
    people: People, http: httpx.AsyncClient, settings: Settings, how: str
) -> None:
    """No token is believed but those that were signed here, for this, by this algorithm."""
    good = (await (await people.make()).log_in())["access_token"]
    forged = _forged(settings, how, good)
    headers = {"authorization": f"Bearer {forged}".encode("latin-1")}
    assert_problem(await http.get(ME, headers=headers), 401, "NOT_AUTHENTICATED")
    assert_problem(await http.get(f"{JOBS}/", headers=headers), 401, "NOT_AUTHENTICATED")


async def test_expired_token(people: People, http: httpx.AsyncClient, settings: Settings) -> None:
    """An access token that has expired is refused, and says where to get the next one."""
    person = await people.make()
    claims = jwt.decode(
        (await person.log_in())["access_token"], options={"verify_signature": False}
    )
    old = {**claims, "iat": claims["iat"] - 7200, "exp": claims["iat"] - 60}
    token = jwt.encode(old, AccessTokens(settings)._key, "HS256", headers={"typ": "at+jwt"})
    answer = await _ask(http, {"access_token": token})
    assert "/auth/refresh" in assert_problem(answer, 401, "NOT_AUTHENTICATED")["detail"]


@pytest.mark.parametrize("scheme", ["Basic dXNlcjpwYXNz", "Bearer", "bearer", "Token x", ""])
async def test_other_schemes(http: httpx.AsyncClient, database: Database, scheme: str) -> None:
    """What is no access token is told what to send."""
    answer = await http.get(ME, headers={"authorization": scheme})
    assert_problem(answer, 401, "NOT_AUTHENTICATED")
    assert answer.headers["www-authenticate"] == "ApiKey, Bearer"


async def test_user_token_opens_no_worker_route(people: People, http: httpx.AsyncClient) -> None:
    """A person's access token is not for workers."""
    headers = _bearer(await (await people.make(role=Role.ADMIN)).log_in())
    answer = await http.post("/worker/v1/workers/heartbeat", headers=headers)
    assert_problem(answer, 401, "NOT_AUTHENTICATED")


async def test_refresh_rotates(people: People, http: httpx.AsyncClient, database: Database) -> None:
    """A refresh token is good for one use, and the session's life begins anew with each."""
    tokens = await (await people.make()).log_in()
    before = (await _session(database, tokens)).expires_at
    answer = await _refresh(http, tokens["refresh_token"])
    assert answer.status_code == 200
    renewed = answer.json()
    assert renewed["refresh_token"] != tokens["refresh_token"]
    assert (await _session(database, tokens)).expires_at > before
    assert (await _ask(http, renewed)).json()["session_id"] == (await _ask(http, tokens)).json()[
        "session_id"
    ]


async def test_reused_refresh_token_ends_the_session(
    people: People, http: httpx.AsyncClient, database: Database
) -> None:
    """Whoever shows a used token ends the session, for themselves and for who has the new one."""
    person = await people.make()
    tokens, elsewhere = await person.log_in(), await person.log_in()
    renewed = (await _refresh(http, tokens["refresh_token"])).json()
    assert (await _ask(http, renewed)).status_code == 200
    answer = await _refresh(http, tokens["refresh_token"])
    assert_problem(answer, 401, "REFRESH_REFUSED")
    assert_problem(await _refresh(http, renewed["refresh_token"]), 401, "REFRESH_REFUSED")
    assert_problem(await until_refused(lambda: _ask(http, renewed)), 401, "NOT_AUTHENTICATED")
    assert (await _session(database, tokens)).end_reason == EndReason.TOKEN_REUSED
    assert (await _ask(http, elsewhere)).status_code == 200


async def test_refreshed_at_the_same_time(people: People, http: httpx.AsyncClient) -> None:
    """Of several who use the same token one gets new ones, which the others have ended."""
    tokens = await (await people.make()).log_in()
    answers = await asyncio.gather(*(_refresh(http, tokens["refresh_token"]) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [200, 401, 401, 401, 401]
    [renewed] = [answer.json() for answer in answers if answer.status_code == 200]
    assert_problem(await _refresh(http, renewed["refresh_token"]), 401, "REFRESH_REFUSED")


@pytest.mark.parametrize("token", ["x", "p3d_refresh_" + "a" * 43, "\x00", "é", "'; --"])
async def test_made_up_refresh_tokens(
    http: httpx.AsyncClient, database: Database, token: str
) -> None:
    """A token that was never made is refused, and nobody is logged out by it."""
    assert_problem(await _refresh(http, token), 401, "REFRESH_REFUSED")


async def test_refresh_token_is_kept_as_a_hash(people: People, database: Database) -> None:
    """What is in the table opens nothing."""
    token = (await (await people.make()).log_in())["refresh_token"]
    async with database.transaction() as session:
        kept = (await session.execute(select(RefreshToken.token_hash))).scalar_one()
    assert token not in kept
    assert len(kept) == 64


async def test_old_session_is_not_refreshed(
    people: People, http: httpx.AsyncClient, database: Database
) -> None:
    """A refresh token is no good after its time."""
    tokens = await (await people.make()).log_in()
    async with database.transaction() as session:
        await session.execute(update(LoginSession).values(expires_at=func.now() - seconds(1)))
    assert_problem(await _refresh(http, tokens["refresh_token"]), 401, "REFRESH_REFUSED")
    assert_problem(await _ask(http, tokens), 401, "NOT_AUTHENTICATED")


async def test_log_out(people: People, http: httpx.AsyncClient) -> None:
    """A log-out ends this session and no other; its tokens are refused at once."""
    person = await people.make()
    tokens, elsewhere = await person.log_in(), await person.log_in()
    assert (await http.post(f"{AUTH}/logout", headers=_bearer(tokens))).status_code == 204
    assert_problem(await until_refused(lambda: _ask(http, tokens)), 401, "NOT_AUTHENTICATED")
    assert_problem(await _refresh(http, tokens["refresh_token"]), 401, "REFRESH_REFUSED")
    assert (await _ask(http, elsewhere)).status_code == 200


async def test_log_out_everywhere(people: People, http: httpx.AsyncClient) -> None:
    """All sessions end, also at the word of a key; keys work on."""
    person, colleague = await people.make(), await people.make()
    sessions = [await person.log_in() for _ in range(3)]
    others = await colleague.log_in()
    answer = await person.client.post(f"{AUTH}/logout", params={"everywhere": True})
    assert answer.status_code == 204
    for tokens in sessions:
        assert_problem(await _refresh(http, tokens["refresh_token"]), 401, "REFRESH_REFUSED")
        answer = await until_refused(lambda tokens=tokens: _ask(http, tokens))
        assert_problem(answer, 401, "NOT_AUTHENTICATED")
    assert (await person.client.get(ME)).status_code == 200
    assert (await _ask(http, others)).status_code == 200


async def test_key_has_no_session(people: People) -> None:
    """Who shows a key learns how to end that instead."""
    answer = await (await people.make()).client.post(f"{AUTH}/logout")
    assert "/keys/" in assert_problem(answer, 409, "NO_SESSION")["detail"]


async def test_log_out_reaches_every_process(
    people: People, http: httpx.AsyncClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that another process has cached is refused there by the signal alone."""
    monkeypatch.setattr(authenticator, "CACHE_SECONDS", 3600.0)
    tokens = await (await people.make()).log_in()
    async with another_app(settings) as other:
        assert (await _ask(other, tokens)).status_code == 200
        await listening(other)
        assert (await http.post(f"{AUTH}/logout", headers=_bearer(tokens))).status_code == 204
        answer = await until_refused(lambda: _ask(other, tokens))
        assert "session has ended" in assert_problem(answer, 401, "NOT_AUTHENTICATED")["detail"]


async def test_token_of_another_process_is_good(
    people: People, settings: Settings, database: Database
) -> None:
    """Any process believes what another one has signed; with another secret none does."""
    tokens = await (await people.make()).log_in()
    async with another_app(settings) as other:
        assert (await _ask(other, tokens)).status_code == 200
    secret = type(settings.secret_key)("another-secret-key-of-more-than-32-letters")
    async with another_app(settings, secret_key=secret) as other:
        assert_problem(await _ask(other, tokens), 401, "NOT_AUTHENTICATED")


async def test_change_password(people: People, http: httpx.AsyncClient) -> None:
    """The new password works and the old one does not; other sessions end, but no keys."""
    person = await people.make()
    here, elsewhere = await person.log_in(), await person.log_in()
    body = {"current_password": PASSWORD, "new_password": "Battery-Staple-7"}
    answer = await http.post(f"{AUTH}/change-password", json=body, headers=_bearer(here))
    assert answer.status_code == 204
    assert_problem(await until_refused(lambda: _ask(http, elsewhere)), 401, "NOT_AUTHENTICATED")
    assert_problem(await _refresh(http, elsewhere["refresh_token"]), 401, "REFRESH_REFUSED")
    assert (await _ask(http, here)).status_code == 200
    assert (await _refresh(http, here["refresh_token"])).status_code == 200
    assert (await person.client.get(ME)).status_code == 200
    login = {"username": person.username, "password": PASSWORD}
    assert_problem(await http.post(f"{AUTH}/login", json=login), 401, "LOGIN_REFUSED")
    login["password"] = "Battery-Staple-7"
    assert (await http.post(f"{AUTH}/login", json=login)).status_code == 200


async def test_change_password_wants_the_current_one(
    people: People, database: Database, settings: Settings
) -> None:
    """A stolen key or token alone changes no password, and can't try for ever."""
    person = await people.make()
    body = {"current_password": "Wrong-Horse-9", "new_password": "Battery-Staple-7"}
    for _ in range(settings.login_max_failures):
        answer = await person.client.post(f"{AUTH}/change-password", json=body)
        assert_problem(answer, 403, "WRONG_PASSWORD")
    body["current_password"] = PASSWORD
    answer = await person.client.post(f"{AUTH}/change-password", json=body)
    assert_problem(answer, 429, "LOGIN_LOCKED")
    assert (await person.log_in())["access_token"]


async def test_deactivated_user_is_logged_out(people: People, http: httpx.AsyncClient) -> None:
    """Sessions of somebody who was deactivated end at once, and don't come back with them."""
    admin, person = await people.make(role=Role.ADMIN), await people.make()
    tokens = await person.log_in()
    assert (await _ask(http, tokens)).status_code == 200
    for is_active in (False, True):
        answer = await admin.client.patch(
            f"/api/v1/users/{person.id}", json={"is_active": is_active}
        )
        assert answer.status_code == 200
        answer = await until_refused(lambda: _ask(http, tokens))
        assert_problem(answer, 401, "NOT_AUTHENTICATED")
        assert_problem(await _refresh(http, tokens["refresh_token"]), 401, "REFRESH_REFUSED")
    assert (await person.log_in())["access_token"]


async def test_old_sessions_are_deleted(people: People, database: Database) -> None:
    """A session that has been over for a day is deleted with its tokens; others are kept."""
    person = await people.make()
    old, new = await person.log_in(), await person.log_in()
    old_id, new_id = (await _session(database, old)).id, (await _session(database, new)).id
    async with database.transaction() as session:
        await session.execute(
            update(LoginSession)
            .where(LoginSession.id == old_id)
            .values(expires_at=func.now() - seconds(86401))
        )
    assert await forget_sessions(database) == 1
    assert await forget_sessions(database) == 0
    async with database.transaction() as session:
        kept = (await session.scalars(select(RefreshToken.session_id))).all()
    assert kept == [new_id]
