"""The links of the OpenAPI document lead through accounts, keys and webhooks."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from link_walks import Guide, walk
from schemathesis import Case
from schemathesis.core.transport import Response
from sqlalchemy import text
from typing_extensions import override

from app.accounts.roles import Role
from app.config import Settings
from app.db.session import Database
from app.main import create_app
from tests.support.apps import serving
from tests.support.people import AUTH, PASSWORD, People, Person

WALKS, STEPS = 12, 20
KEYS, WEBHOOKS, USERS = "/api/v1/keys", "/api/v1/webhooks", "/api/v1/users"
SUCCEEDED = {
    AUTH: (
        *("POST /register 201", "POST /login 200", "POST /refresh 200"),
        *("GET /me 200", "POST /logout 204"),
    ),
    KEYS: ("POST / 201", "POST /{key_id}/rotate 201", "DELETE /{key_id} 204", "GET / 200"),
    WEBHOOKS: (
        *("POST / 201", "GET /{webhook_id} 200", "PATCH /{webhook_id} 200"),
        *("POST /{webhook_id}/rotate-secret 200", "DELETE /{webhook_id} 204"),
        *("POST /{webhook_id}/test 202", "GET /{webhook_id}/deliveries 200"),
        "POST /deliveries/{delivery_id}/redeliver 202",
    ),
    USERS: ("POST / 201", "GET /{user_id} 200", "PATCH /{user_id} 200"),
}
"""What walks among the routes of each folder must come to; else the links lead nowhere."""


CLEAR = (
    *("DELETE FROM deliveries", "DELETE FROM webhooks", "DELETE FROM login_failures"),
    *("DELETE FROM sessions", "DELETE FROM api_keys WHERE user_id = :admin AND name <> 'default'"),
    "DELETE FROM users WHERE id > :admin",
    "UPDATE users SET role = 'admin', is_active = true, email = NULL WHERE id = :admin",
)


def _good_person(body: dict[str, Any]) -> None:
    body.clear()
    body.update({"username": f"walker-{uuid4().hex[:12]}", "password": PASSWORD})


def _good_key(body: dict[str, Any]) -> None:
    body.clear()
    body.update({"name": "laptop"})


def _good_webhook(body: dict[str, Any]) -> None:
    body.clear()
    body.update({"url": "https://hooks.example.com/3d"})


def _good_change(body: dict[str, Any]) -> None:
    body.clear()
    body.update({"description": "mine"})


GOOD = {
    f"PATCH {WEBHOOKS}/{{webhook_id}}": _good_change,
    f"POST {AUTH}/register": _good_person,
    f"POST {USERS}/": _good_person,
    f"POST {KEYS}/": _good_key,
    f"POST {WEBHOOKS}/": _good_webhook,
}


class Newcomer(Guide):
    """Somebody who walks as an admin, and where tokens lead, as whom they are of."""

    def __init__(self, url: str, database: Database, admin: Person) -> None:
        super().__init__(url)
        self._loop = asyncio.get_running_loop()
        self._database = database
        self._admin = admin
        self._token = ""

    @override
    def clear(self) -> None:
        """Nobody but the admin, who has one key and is an admin still."""

        async def delete() -> None:
            async with self._database.transaction() as session:
                for statement in CLEAR:
                    await session.execute(text(statement), {"admin": self._admin.id})

        self._token = ""
        asyncio.run_coroutine_threadsafe(delete(), self._loop).result(60)

    @override
    def before(self, where: str, number: int, case: Case) -> None:
        if isinstance(case.body, dict) and number % 4 and where in GOOD:
            GOOD[where](case.body)

    @override
    def headers(self, case: Case) -> dict[str, str]:
        if case.path in {f"{AUTH}/me", f"{AUTH}/logout"} and self._token:
            return {"authorization": f"Bearer {self._token}"}
        return {"x-api-key": self._admin.key}

    @override
    def after(self, where: str, answer: Response) -> None:
        if answer.status_code == 200 and where in {f"POST {AUTH}/login", f"POST {AUTH}/refresh"}:
            self._token = answer.json()["access_token"]


@pytest.mark.parametrize("folder", SUCCEEDED)
async def test_links_lead_on(
    folder: str, settings: Settings, database: Database, people: People
) -> None:
    """Wherever the links lead, answers are documented ones; people log in, keys are rotated."""
    admin = await people.make(role=Role.ADMIN)
    changes = {"registration_open": True, "login_max_failures_per_address": 1_000_000}
    app = create_app(settings.model_copy(update=changes))
    async with app.router.lifespan_context(app), serving(app) as url:
        guide = Newcomer(url, database, admin)
        seen = await walk(app.openapi(), folder, guide, walks=WALKS, steps=STEPS)
    found = {step.replace(folder, "") for step, times in seen.items() if times}
    assert [step for step in SUCCEEDED[folder] if step not in found] == []
