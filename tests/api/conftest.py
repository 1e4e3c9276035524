"""Fixtures of the tests of the HTTP API."""

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from app.accounts import passwords
from app.config import Settings
from app.db.session import Database
from app.initial_data import seed
from tests.conftest import ADMIN_KEY, WORKER_KEY


@pytest.fixture(scope="session", autouse=True)
def _cheap_passwords() -> Iterator[None]:
    """The same hash with the least cost: every test makes users, and none is about this."""
    with pytest.MonkeyPatch.context() as patch:
        cheap = Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1)
        patch.setattr(passwords, "_hasher", PasswordHash((cheap,)))
        yield


@pytest.fixture(scope="session")
async def _admin(api_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        base_url=api_url, headers={"x-api-key": ADMIN_KEY}, trust_env=False, timeout=30
    ) as client:
        yield client


@pytest.fixture(scope="module")
async def _seeded(raw_database: Database, settings: Settings) -> None:
    async with raw_database.transaction() as session:
        await seed(session, settings)


@pytest.fixture
def admin(_admin: httpx.AsyncClient, _seeded: None) -> httpx.AsyncClient:
    """The first admin's client, for requests that write nothing: tables are as others left them."""
    return _admin


@pytest.fixture
async def worker_client(api_url: str, _seeded: None) -> AsyncIterator[httpx.AsyncClient]:
    """A worker's client, for requests that write nothing."""
    async with httpx.AsyncClient(
        base_url=api_url, headers={"x-api-key": WORKER_KEY}, trust_env=False, timeout=30
    ) as client:
        yield client
