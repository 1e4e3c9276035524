"""`python -m app.initial_data`, run again and again: what of the accounts it changes."""

import httpx
import pytest

from app.accounts.repository import find_user
from app.accounts.roles import Role
from app.config import Settings
from app.db.session import Database
from app.initial_data import seed
from tests.conftest import ADMIN_KEY
from tests.support.people import AUTH

BODY = {"current_password": "test-password", "new_password": "Battery-Staple-7"}


async def _seed(database: Database, settings: Settings) -> dict[str, str]:
    async with database.transaction() as session:
        return {name: done for done, name in await seed(session, settings)}


async def _logs_in(http: httpx.AsyncClient, password: str) -> bool:
    body = {"username": "admin", "password": password}
    return (await http.post(f"{AUTH}/login", json=body)).status_code == 200


async def test_again(database: Database, settings: Settings, http: httpx.AsyncClient) -> None:
    """A second run changes nothing, and the first admin logs in with the setting's password."""
    assert set((await _seed(database, settings)).values()) == {"unchanged"}
    assert await _logs_in(http, "test-password")


async def test_another_password_in_the_settings(
    database: Database, settings: Settings, http: httpx.AsyncClient
) -> None:
    """Until somebody changes it, the first admin's password is the setting's."""
    secret = type(settings.first_superuser_password)("another-password")
    changed = settings.model_copy(update={"first_superuser_password": secret})
    assert (await _seed(database, changed))["admin admin"] == "updated"
    assert await _logs_in(http, "another-password")


async def test_changed_password_is_kept(
    database: Database, settings: Settings, http: httpx.AsyncClient
) -> None:
    """A password that was changed is not taken back by the next upgrade."""
    headers = {"x-api-key": ADMIN_KEY}
    answer = await http.post(f"{AUTH}/change-password", json=BODY, headers=headers)
    assert answer.status_code == 204
    assert (await _seed(database, settings))["admin admin"] == "unchanged"
    assert await _logs_in(http, BODY["new_password"])
    assert not await _logs_in(http, BODY["current_password"])


@pytest.mark.parametrize("change", [{"role": Role.VIEWER}, {"is_active": False}])
async def test_first_admin_comes_back(
    database: Database, settings: Settings, change: dict[str, object]
) -> None:
    """Whoever can run it on the server is never locked out for good."""
    async with database.transaction() as session:
        admin = await find_user(session, "admin")
        assert admin is not None
        for name, value in change.items():
            setattr(admin, name, value)
    assert (await _seed(database, settings))["admin admin"] == "updated"
