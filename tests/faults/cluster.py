"""The whole platform as processes that run a quick pipeline and reach each other by proxies."""

import json
import random
import secrets
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from app.accounts.keys import generate_key, hash_key, key_prefix
from app.accounts.tables import KeyKind
from app.notifications.events import Event
from devstack import ports, services
from devstack.processes import Service
from devstack.settings import fresh_settings, unlimited
from devstack.stack import Ports, Stack
from tests.faults.proxy import FaultProxy

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
        "noise_bytes": {"type": "integer", "minimum": 100, "maximum": 40_000_000, "default": 2000},
        "streamed": {"type": "boolean", "default": False},
        "picture": {
            "type": "string",
            "format": "upload",
            "x-accept": ["image/png"],
            "x-max-bytes": 10_000_000,
        },
    },
}


def settings(folder: Path) -> dict[str, str]:
    """Settings with short waits and the quick pipeline plugged in."""
    return {
        **fresh_settings(),
        **unlimited(),
        "LEASE_SECONDS": str(LEASE_SECONDS),
        "HEARTBEAT_SECONDS": "1",
        "RETRY_BASE_SECONDS": "0.5",
        "DISPATCH_INTERVAL_SECONDS": "0.5",
        "MAX_ACTIVE_JOBS_PER_USER": str(MAX_ACTIVE),
        "WORKER_PIPELINES": "quick=tests.faults.quick_pipeline:Quick",
        "WORKER_WORK_DIR": str(folder / "work"),
        "WEBHOOK_ALLOW_HTTP": "true",
        "WEBHOOK_PORTS": "",
        "WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
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
    """A stack made for being hurt. Start it as a context manager, in a thread that stays.

    `ways` lead from API and dispatchers to Postgres (`database`), from dispatchers and workers to
    Redis (`redis`), from workers and clients to the API (`api`) and to storage (`storage`).
    """

    def __init__(self, folder: Path) -> None:
        listen = quiet_ports()
        self.stack = Stack(folder, settings=settings(folder), listen=listen, fast=True)
        assert listen.api is not None
        self._api_port = listen.api
        self.ways: dict[str, FaultProxy] = {}
        self._open = ExitStack()

    def __enter__(self) -> Self:
        self._open.callback(self.stack.stop)
        try:
            self._start()
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @property
    def api_url(self) -> str:
        """The API as clients reach it."""
        return self.ways["api"].url

    @property
    def settings(self) -> dict[str, str]:
        """What the processes are told: to take the ways."""
        direct = self.stack.settings
        return direct | {
            "DATABASE_URL": self.ways["database"].instead_of(direct["DATABASE_URL"]),
            "REDIS_URL": self.ways["redis"].instead_of(direct["REDIS_URL"]),
            "MINIO_PUBLIC_ENDPOINT": self.ways["storage"].url,
            "API_URL": self.ways["api"].url,
        }

    def worker(self, name: str, **settings: str) -> Service:
        """A worker that has not been started; it stops with the rest."""
        logs, folder = self.stack.logs, self.stack.folder / name
        self.stack.services[name] = services.worker(self.settings | settings, folder, logs, name)
        return self.stack.services[name]

    def dispatcher(self, name: str) -> Service:
        """A dispatcher that has not been started; it stops with the rest."""
        self.stack.services[name] = services.dispatcher(self.settings, self.stack.logs / name)
        return self.stack.services[name]

    def heal(self) -> None:
        """Let everything pass everywhere."""
        for way in self.ways.values():
            way.heal()
            way.drop_lost()

    def _start(self) -> None:
        """Servers, tables, the model, the ways, the API and one dispatcher and worker."""
        stack = self.stack
        stack.start_servers()
        stack.migrate()
        self._add_model()
        assert stack.postgres is not None
        assert stack.redis is not None
        assert stack.s3 is not None
        api_port = self._api_port
        ends = {
            "database": stack.postgres.port,
            "redis": stack.redis.port,
            "storage": stack.s3.port,
            "api": api_port,
        }
        for name, port in ends.items():
            self.ways[name] = self._open.enter_context(FaultProxy(port, delay_seconds=0.2))
        stack.services["api"] = services.api(self.settings, api_port, stack.logs).start()
        self.dispatcher(DISPATCHERS[0]).start()
        self.worker(WORKERS[0]).start()

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

    def add_webhook(self, account: Account, url: str) -> None:
        """Let a user be told of every event by webhook."""
        self.execute(
            "INSERT INTO webhooks (id, organisation_id, user_id, url, events)"  # noqa: S608
            f" SELECT '{uuid4()}', organisation_id, id, '{url}',"
            f" '{{{','.join(Event)}}}' FROM users WHERE id = '{account.id}'"
        )

    def _add_model(self) -> None:
        self.execute(
            "INSERT INTO models (id, name, description, kind, version, licence, pipeline,"  # noqa: S608
            " queue, prompt_policy, main_artifact, max_attempts, time_limit_seconds, parameters)"
            f" VALUES ('{MODEL}', 'Quick', 'For tests.', 'nothing-to-3d', '1', 'MIT', 'quick',"
            f" 'cpu', 'none', 'model_3d', 3, 60, '{json.dumps(PARAMETERS)}')"
        )
