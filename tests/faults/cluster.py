"""The whole platform with two dispatchers and three workers that run a quick pipeline."""

import json
import random
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from app.accounts.keys import generate_key, hash_key, key_prefix
from app.accounts.tables import KeyKind
from devstack import ports, services
from devstack.settings import fresh_settings
from devstack.stack import Ports, Stack

MODEL = "quick-v1"
LEASE_SECONDS = 5.0
MAX_ACTIVE = 2
DISPATCHERS = ("dispatcher", "dispatcher-2")
WORKERS = ("worker", "worker-2", "worker-3")

PARAMETERS = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "seconds": {"type": "number", "minimum": 0, "maximum": 60, "default": 0},
        "poison": {"type": "boolean", "default": False},
    },
}


def settings(folder: Path) -> dict[str, str]:
    """Settings with short waits and the quick pipeline plugged in."""
    return {
        **fresh_settings(),
        "LEASE_SECONDS": str(LEASE_SECONDS),
        "HEARTBEAT_SECONDS": "1",
        "RETRY_BASE_SECONDS": "0.5",
        "DISPATCH_INTERVAL_SECONDS": "0.5",
        "MAX_ACTIVE_JOBS_PER_USER": str(MAX_ACTIVE),
        "WORKER_PIPELINES": "quick=tests.faults.quick_pipeline:Quick",
        "WORKER_WORK_DIR": str(folder / "work"),
        "LOG_FORMAT": "json",
    }


def quiet_ports() -> Ports:
    """Free ports that no outgoing connection is given.

    A client that calls a dead server on one of those may be connected to itself, and then the
    server cannot come back.
    """
    free = (port for port in random.sample(range(20_000, 32_000), 1000) if ports.is_free(port))
    return Ports(*(next(free) for _ in range(5)))


@dataclass(frozen=True)
class Account:
    """A user of the platform."""

    id: str
    key: str


class Cluster:
    """A stack made for being hurt. Start it as a context manager, in a thread that stays."""

    def __init__(self, folder: Path) -> None:
        self.stack = Stack(folder, settings=settings(folder), listen=quiet_ports(), fast=True)

    def __enter__(self) -> Self:
        try:
            self.start_platform()
            self.start_second_half()
        except BaseException:
            self.stack.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.stop()

    def start_platform(self) -> None:
        """Servers, tables, the model, and one of each process."""
        self.stack.start_servers()
        self.stack.migrate()
        self._add_model()
        self.stack.start_services()

    def start_second_half(self) -> None:
        """The other dispatcher and the other workers."""
        second = services.dispatcher(self.stack.settings, self.stack.logs / DISPATCHERS[1])
        self.stack.services[DISPATCHERS[1]] = second.start()
        for name in WORKERS[1:]:
            self.stack.add_worker(name)

    @property
    def dsn(self) -> str:
        """Where the database is, as asyncpg takes it."""
        assert self.stack.postgres is not None
        return self.stack.postgres.psql_url

    def query(self, select: str) -> list[dict[str, Any]]:
        """The rows of a SELECT."""
        return list(
            json.loads(
                self.execute(f"SELECT coalesce(json_agg(r), '[]') FROM ({select}) r")  # noqa: S608
            )
        )

    def execute(self, statement: str) -> str:
        """Run a statement on the platform's database."""
        assert self.stack.postgres is not None
        return self.stack.postgres.psql(statement, database=self.stack.postgres.database)

    def add_account(self) -> Account:
        """A new user with a key."""
        account = Account(str(uuid4()), generate_key(KeyKind.USER).key)
        key_hash = hash_key(account.key, self.stack.settings["SECRET_KEY"])
        name = f"user-{secrets.token_hex(4)}"
        self.execute(
            "WITH person AS (INSERT INTO users"  # noqa: S608
            " (id, organisation_id, username, password_hash, role)"
            f" SELECT '{account.id}', id, '{name}', 'none', 'operator'"
            " FROM organisations LIMIT 1 RETURNING id)"
            " INSERT INTO api_keys (id, kind, user_id, name, prefix, key_hash)"
            f" SELECT '{uuid4()}', 'user', id, 'test', '{key_prefix(account.key)}', '{key_hash}'"
            " FROM person"
        )
        return account

    def _add_model(self) -> None:
        self.execute(
            "INSERT INTO models (id, name, description, kind, version, licence, pipeline,"  # noqa: S608
            " queue, prompt_policy, main_artifact, max_attempts, time_limit_seconds, parameters)"
            f" VALUES ('{MODEL}', 'Quick', 'For tests.', 'nothing-to-3d', '1', 'MIT', 'quick',"
            f" 'cpu', 'none', 'model_3d', 3, 60, '{json.dumps(PARAMETERS)}')"
        )
