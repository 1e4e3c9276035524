"""Fixtures of all tests: real Postgres, Redis and S3 server, and the API on a real port.

Every test has its own users and empty tables; servers and the API live as long as the session.
"""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from redis import Redis
from sqlalchemy import text

from app.config import Settings
from app.db.session import Database
from app.initial_data import seed
from app.main import create_app
from app.queueing.dispatcher import Dispatcher
from app.queueing.rq_queue import RqQueues
from app.storage.base import ObjectStore
from devstack.servers import PostgresServer, RedisServer, S3Server
from tests.support.apps import serving
from tests.support.people import People
from tests.support.runs import Stage
from tests.support.worker import FakeWorker

ROOT = Path(__file__).parent.parent
WORKER_KEY = "test-worker-key"
ADMIN_KEY = "test-admin-key"


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    with PostgresServer(tmp_path_factory.mktemp("postgres"), fast=True) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="session")
def settings(postgres: PostgresServer, redis_server: RedisServer, s3: S3Server) -> Settings:
    return Settings(
        _env_file=None,
        database_url=postgres.url,
        redis_url=redis_server.url,
        minio_endpoint=s3.url,
        minio_access_key=s3.access_key,
        minio_secret_key=s3.secret_key,
        secret_key="test-secret-key-of-more-than-32-letters",
        first_superuser_password="test-password",
        first_superuser_api_key=ADMIN_KEY,
        worker_api_key=WORKER_KEY,
        backend_cors_origins="http://localhost:3000",
        log_level="warning",
        # On, but out of the way: those that are about limits make an API of their own.
        rate_limit_requests_per_user=1_000_000,
        rate_limit_requests_per_address=1_000_000,
        rate_limit_downloads_per_user=100_000,
        rate_limit_creates_per_user=100_000,
        rate_limit_requests_per_key=0,
        rate_limit_downloads_per_key=0,
        rate_limit_creates_per_key=0,
    )


def environment(settings: Settings) -> dict[str, str]:
    """The settings as a process's environment, with nothing of ours inherited."""
    values = {
        name.upper(): value.get_secret_value() if hasattr(value, "get_secret_value") else value
        for name, value in settings
        if value is not None
    }
    return {
        **{k: v for k, v in os.environ.items() if k.lower() not in Settings.model_fields},
        **{
            name: json.dumps(value, default=str) if isinstance(value, list) else str(value)
            for name, value in values.items()
        },
    }


@pytest.fixture(scope="session")
def migrated(settings: Settings) -> None:
    subprocess.run(
        [sys.executable, "-m", "alembic", "upgrade", "head"],
        cwd=ROOT,
        env=environment(settings),
        check=True,
    )


@pytest.fixture(scope="session")
async def app(settings: Settings, migrated: None) -> AsyncIterator[FastAPI]:
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture(scope="session")
async def api_url(app: FastAPI) -> AsyncIterator[str]:
    """The API on a real port; its life is `app`'s."""
    async with serving(app) as url:
        yield url


@pytest.fixture(scope="session")
def raw_database(app: FastAPI) -> Database:
    return app.state.database


@pytest.fixture
async def database(raw_database: Database, settings: Settings, app: FastAPI) -> Database:
    """An empty database with the first admin, the keys of the settings and the catalog."""
    async with raw_database.transaction() as session:
        tables = (
            await session.execute(
                text(
                    "SELECT string_agg(quote_ident(tablename), ', ') FROM pg_tables "
                    "WHERE schemaname = 'public' AND tablename NOT IN "
                    "('alembic_version', 'models', 'api_processes', 'audit_events')"
                )
            )
        ).scalar_one()
        await session.execute(text(f"TRUNCATE {tables}"))
        await seed(session, settings)
    app.state.authenticator.forget_all()
    app.state.job_reader.forget_all()
    app.state.usage_limits.forget_all()
    return raw_database


@pytest.fixture
def store(app: FastAPI) -> ObjectStore:
    return app.state.store


@pytest.fixture
def redis(redis_server: RedisServer) -> Iterator[Redis]:
    """An empty Redis."""
    with Redis.from_url(redis_server.url) as client:
        client.flushall()
        yield client


@pytest.fixture
async def http(api_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API without a key."""
    async with httpx.AsyncClient(base_url=api_url, trust_env=False, timeout=30) as client:
        yield client


@pytest.fixture
async def people(database: Database, settings: Settings, api_url: str) -> AsyncIterator[People]:
    """Makes users, each with a client of their own."""
    async with People(database, settings, api_url) as people:
        yield people


@pytest.fixture
async def worker(database: Database, api_url: str) -> AsyncIterator[FakeWorker]:
    """Speaks the worker's side of the API by hand, for the `cpu` queue."""
    async with FakeWorker(api_url, WORKER_KEY) as worker:
        yield worker


@pytest.fixture
async def queues(settings: Settings, redis: Redis) -> AsyncIterator[RqQueues]:
    queues = RqQueues(settings.redis_url)
    yield queues
    await queues.close()


@pytest.fixture
def dispatcher(database: Database, queues: RqQueues, settings: Settings) -> Dispatcher:
    return Dispatcher(database, queues, settings, lost_after_seconds=0)


@pytest.fixture
def stage(worker: FakeWorker, dispatcher: Dispatcher, database: Database) -> Stage:
    """What it takes to run jobs."""
    return Stage(worker, dispatcher, database)
