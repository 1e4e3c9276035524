"""Fixtures of the tests of the HTTP API."""

from collections.abc import Iterator

import pytest
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from app.accounts import passwords
from app.db.session import Database
from app.queueing.dispatcher import Dispatcher
from tests.support.runs import Stage
from tests.support.worker import FakeWorker


@pytest.fixture(scope="session", autouse=True)
def _cheap_passwords() -> Iterator[None]:
    """The same hash with the least cost: every test makes users, and none is about this."""
    with pytest.MonkeyPatch.context() as patch:
        cheap = Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1)
        patch.setattr(passwords, "_hasher", PasswordHash((cheap,)))
        yield


@pytest.fixture
def stage(worker: FakeWorker, dispatcher: Dispatcher, database: Database) -> Stage:
    """What it takes to run jobs."""
    return Stage(worker, dispatcher, database)
