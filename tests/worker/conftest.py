import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from io import StringIO
from pathlib import Path

import pytest
import redis
import structlog
from fake_platform import WORKER_KEY, Platform
from pydantic import SecretStr
from rq import Queue
from rq.serializers import JSONSerializer
from worker_support import QUEUE, Start, WorkerProcess, host_environment

from devstack.servers import RedisServer
from tests.support.gpu import leave_out_without_gpu
from worker_vm.api_client import ApiClient
from worker_vm.backoff import RetryPolicy
from worker_vm.host_pool import HostPool
from worker_vm.http_client import make_client
from worker_vm.logs import configure_logging
from worker_vm.runner import Patience, RunHost
from worker_vm.supervisor import Timings

QUICK = RetryPolicy(first_wait=0.01, longest_wait=0.05, give_up_after=5)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests of a GPU where there is none."""
    leave_out_without_gpu(config, items)


@pytest.fixture
def platform() -> Iterator[Platform]:
    with Platform() as running:
        yield running


@pytest.fixture(scope="session")
def shared_pool() -> Iterator[HostPool]:
    """Pipeline hosts for any number of tests; started at the first run."""
    pool = HostPool(environment=host_environment())
    yield pool
    pool.stop()


@pytest.fixture
def pool(shared_pool: HostPool) -> HostPool:
    """The shared hosts, without memory of earlier crashes."""
    shared_pool._failures.clear()
    shared_pool._respawn_at.clear()
    return shared_pool


@pytest.fixture
def make_pool() -> Iterator[Callable[..., HostPool]]:
    """Makes hosts with settings of their own."""
    made: list[HostPool] = []

    def make(preload: tuple[str, ...] = (), **settings: str) -> HostPool:
        made.append(HostPool(preload=preload, environment=host_environment(**settings)))
        return made[-1]

    yield make
    for pool in made:
        pool.stop()


@pytest.fixture(scope="session")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python without any package."""
    folder = tmp_path_factory.mktemp("bare") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return str(folder / "bin" / "python")


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    """Closes after the test."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def host(platform: Platform, tmp_path: Path, pool: HostPool, closing: ExitStack) -> RunHost:
    work_root = tmp_path / "work"
    work_root.mkdir()
    api = closing.enter_context(ApiClient(platform.url, SecretStr(WORKER_KEY)))
    storage = closing.enter_context(make_client())
    return RunHost(
        worker_name="tester-1",
        api=api,
        storage=storage,
        work_root=work_root,
        pool=pool,
        patience=Patience(
            claim=QUICK,
            download=QUICK,
            upload=QUICK,
            log_upload=QUICK,
            finish=QUICK,
        ),
        timings=Timings(progress_spacing=0.01, longest_call=5),
    )


@pytest.fixture(scope="session")
def workers_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis that only these tests use, since they stop it."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_server(workers_redis: RedisServer) -> RedisServer:
    """An empty Redis that runs."""
    workers_redis.start()
    with redis.Redis.from_url(workers_redis.url) as client:
        client.flushall()
    return workers_redis


@pytest.fixture
def connection(redis_server: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_server.url) as client:
        yield client


@pytest.fixture
def queue(connection: redis.Redis) -> Queue:
    return Queue(QUEUE, connection=connection, serializer=JSONSerializer)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Where worker processes make their private folders."""
    return tmp_path / "runs"


@pytest.fixture
def start(
    platform: Platform, redis_server: RedisServer, tmp_path: Path, runs: Path
) -> Iterator[Start]:
    """Starts worker processes."""
    started: list[WorkerProcess] = []

    def start(*arguments: str, path: str = "", **settings: str) -> WorkerProcess:
        folder = tmp_path / f"worker-{len(started)}"
        folder.mkdir()
        environment = host_environment(
            REDIS_URL=redis_server.url,
            API_URL=platform.url,
            WORKER_API_KEY=WORKER_KEY,
            WORKER_QUEUE=QUEUE,
            WORKER_WORK_DIR=str(runs),
            LOG_FORMAT="json",
        )
        environment["PYTHONPATH"] += f"{os.pathsep}{path}" if path else ""
        started.append(WorkerProcess(folder, {**environment, **settings}, arguments))
        return started[-1]

    yield start
    for worker in started:
        worker.close()


@pytest.fixture(autouse=True)
def process_log() -> Iterator[StringIO]:
    """What a worker process without a terminal would write to stderr."""
    stream = StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure_logging("info", "json", stream)
    ours = root.handlers[0]
    root.handlers = [*handlers, ours]
    yield stream
    root.removeHandler(ours)
    root.setLevel(level)
    structlog.reset_defaults()
