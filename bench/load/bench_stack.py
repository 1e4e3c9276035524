"""The platform under load: servers, API and dispatcher for real, workers played by hand."""

import asyncio
import http.client
import json
from pathlib import Path
from typing import Self
from uuid import UUID, uuid4

import asyncpg

from app.accounts.service import create_api_key, create_user, get_or_create_organisation
from app.accounts.tables import User
from app.catalog.tables import Model
from app.config import Settings
from app.db import metadata as _all_tables  # noqa: F401  (relations need every table)
from app.db.base import new_id
from app.db.session import Database
from app.db.signals import Signals
from devstack import ports, services
from devstack.processes import Service
from devstack.stack import Stack

MODEL = "bench-v1"
PIPELINE = "bench"
JOBS = 10
NOISY_JOBS = 10_000
RUN_SECONDS = 0.1
GLB = b"glTF" + (2).to_bytes(4, "little") + (12).to_bytes(4, "little")
# On and counted, but never reached.
_LIMITS = {
    "MAX_QUEUED_JOBS_PER_USER": str(1 << 40),
    **{
        f"RATE_LIMIT_{kind}_PER_{whose}": str(1 << 40)
        for kind in ("REQUESTS", "CREATES", "DOWNLOADS")
        for whose in ("USER", "KEY")
    },
}
FINAL = {"SUCCEEDED", "FAILED", "CANCELLED"}
JOBS = "/api/v1/jobs"
_PARAMETERS = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "size": {"type": "integer", "default": 5},
        "image_path": {
            "type": "string",
            "format": "upload",
            "x-accept": ["image/png"],
            "x-max-bytes": 20 << 20,
            "x-max-pixels": 1 << 24,
        },
    },
}


class BenchStack:
    """Servers, API and dispatcher in a folder, with users and a model for the bench."""

    def __init__(self, folder: Path) -> None:
        folder = folder.resolve()
        self.folder = folder
        self._stack = Stack(folder, fast=True)
        self._services: list[Service] = []
        self.port = 0
        self.key = ""

    def __enter__(self) -> Self:
        try:
            self._stack.start_servers()
            self._stack.migrate()
            self.port = ports.free_port()
            settings = {**self._stack.settings, **_LIMITS, "LOG_FORMAT": "json"}
            self._services.append(services.api(settings, self.port, self.folder))
            for service in self._services:
                service.start()
            asyncio.run(self._prepare())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for service in reversed(self._services):
            service.stop()
        self._stack.stop()

    @property
    def dsn(self) -> str:
        """The database, as asyncpg takes it."""
        return self._stack.database_url.replace("+asyncpg", "", 1)

    @property
    def url(self) -> str:
        """The API's address."""
        return f"http://{ports.HOST}:{self.port}"

    @property
    def redis_url(self) -> str:
        """Redis, as the workers reach it."""
        return self._stack.redis_url

    @property
    def worker_key(self) -> str:
        """What workers present to the API."""
        return self._stack.worker_api_key

    def start_dispatcher(self) -> None:
        """Start the dispatcher; it stops with the rest."""
        service = services.dispatcher(self._stack.settings, self.folder)
        self._services.append(service.start())

    async def make_users(self, count: int) -> list[tuple[UUID, str]]:
        """New users: their ids and keys."""
        values = {name.lower(): value for name, value in self._stack.settings.items() if value}
        settings = Settings(_env_file=None, **values)  # type: ignore[call-arg]
        database = Database(settings.database_url, Signals(settings.database_dsn), pool_size=1)
        made = []
        try:
            async with database.transaction() as session:
                organisation, _ = await get_or_create_organisation(session, "Bench")
                first = None
                for _ in range(count):
                    name = f"user-{uuid4()}"
                    if first is None:
                        user = first = await create_user(
                            session, organisation=organisation, username=name, password=str(uuid4())
                        )
                    else:  # a password's hash is slow on purpose
                        user = User(
                            organisation_id=organisation.id,
                            username=name,
                            password_hash=first.password_hash,
                            role=first.role,
                        )
                        session.add(user)
                        await session.flush()
                    secret = settings.secret_key.get_secret_value()
                    _, key = await create_api_key(session, secret_key=secret, user=user)
                    made.append((user.id, key))
        finally:
            await database.close()
        return made

    async def _prepare(self) -> None:
        [(self._user_id, self.key)] = await self.make_users(1)
        connection = await asyncpg.connect(self.dsn)
        try:
            await connection.execute("CREATE TABLE bare_jobs (id uuid PRIMARY KEY, body jsonb)")
            columns = {column.name for column in Model.__table__.columns}
            copied = ", ".join(sorted(columns - {"id", "pipeline", "parameters"}))
            await connection.execute(
                f"INSERT INTO models (id, pipeline, parameters, {copied}) "  # noqa: S608
                f"SELECT $1, $2, $3::jsonb, {copied} FROM models WHERE id = 'inflate-v1'",
                MODEL,
                PIPELINE,
                json.dumps(_PARAMETERS),
            )
        finally:
            await connection.close()

    async def make_polled_jobs(self, count: int) -> tuple[list[UUID], list[UUID]]:
        """So many RUNNING and so many QUEUED jobs."""
        connection = await asyncpg.connect(self.dsn)
        made: list[list[UUID]] = []
        try:
            organisation = await connection.fetchval(
                "SELECT organisation_id FROM users WHERE id = $1", self._user_id
            )
            for status in ("RUNNING", "QUEUED"):
                ids = [new_id() for _ in range(count)]
                await connection.executemany(
                    "INSERT INTO jobs (id, organisation_id, user_id, model_id, model_version, "
                    "queue, status, input_params, max_attempts, slot, progress_percent, stage, "
                    "message, started_at) VALUES ($1, $2, $3, $4, '1', 'cpu', $5::text, "
                    '\'{"size": 7, "image_path": "uploads/a/b/picture.png"}\', 3, $6, 42, '
                    "'texture', 'Filling the back', CASE WHEN $5::text = 'RUNNING' THEN now() END)",
                    [
                        (
                            job_id,
                            organisation,
                            self._user_id,
                            MODEL,
                            status,
                            slot if status == "RUNNING" else None,
                        )
                        for slot, job_id in enumerate(ids, start=1)
                    ],
                )
                made.append(ids)
        finally:
            await connection.close()
        return made[0], made[1]

    def entity_tags(self, jobs: list[UUID]) -> list[str]:
        """The jobs' entity tags."""
        connection = http.client.HTTPConnection(ports.HOST, self.port)
        tags = []
        for job in jobs:
            connection.request("GET", f"{JOBS}/{job}", headers={"x-api-key": self.key})
            answer = connection.getresponse()
            answer.read()
            tags.append(answer.headers["etag"])
        connection.close()
        return tags

    def empty(self) -> None:
        """Drop every job, and let the database tidy up."""
        asyncio.run(self._empty())

    async def _empty(self) -> None:
        connection = await asyncpg.connect(self.dsn)
        await connection.execute("TRUNCATE jobs, user_queue CASCADE")
        await connection.execute("VACUUM ANALYZE")
        await connection.close()
