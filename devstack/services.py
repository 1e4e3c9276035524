"""How each of the platform's four processes is started, and how it shows that it is ready."""

import http.client
import sys
from collections.abc import Mapping
from pathlib import Path

import redis

from devstack import spawn
from devstack.ports import HOST
from devstack.processes import Service
from devstack.settings import ROOT, app_environment, worker_environment

WORKER_STOP_SECONDS = 30.0


def http_status(port: int, path: str) -> int | None:
    """The status of a GET on this machine; None if nobody answers."""
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _is_registered(redis_url: str, pid: int) -> bool:
    """Whether the RQ worker that runs as process `pid` takes tasks."""
    try:
        with redis.Redis.from_url(redis_url, socket_timeout=5, decode_responses=True) as client:
            keys = list(client.sscan_iter("rq:workers"))
            return any(client.hget(key, "pid") == str(pid) for key in keys)
    except redis.RedisError:
        return False


def api(settings: Mapping[str, str], port: int, logs: Path) -> Service:
    """The HTTP API; ready when every server behind it answers."""
    # Which proxies to believe is said by TRUSTED_PROXIES alone.
    arguments = ["--host", HOST, "--port", str(port), "--no-proxy-headers"]
    return Service(
        "api",
        [sys.executable, "-m", "uvicorn", "app.main:app", *arguments],
        env=app_environment(settings),
        cwd=ROOT,
        log_path=logs / "api.log",
        ready=lambda pid: (
            spawn.listens(pid, port) and http_status(port, "/readyz") == http.HTTPStatus.OK
        ),
    )


def dispatcher(settings: Mapping[str, str], logs: Path) -> Service:
    """The dispatcher; nobody needs to wait for it."""
    return Service(
        "dispatcher",
        [sys.executable, "-m", "app.queueing"],
        env=app_environment(settings),
        cwd=ROOT,
        log_path=logs / "dispatcher.log",
    )


def worker(settings: Mapping[str, str], folder: Path, logs: Path, name: str = "worker") -> Service:
    """A worker, as on another machine: it sees no `.env`, no database and no storage keys."""
    folder.mkdir(parents=True, exist_ok=True)
    redis_url = settings["REDIS_URL"]
    return Service(
        name,
        [sys.executable, "-m", "worker_vm"],
        env=worker_environment(settings),
        cwd=folder,
        log_path=logs / f"{name}.log",
        ready=lambda pid: _is_registered(redis_url, pid),
        stop_seconds=WORKER_STOP_SECONDS,
    )


def dashboard(settings: Mapping[str, str], port: int, logs: Path) -> Service:
    """The dashboard, ready when it asks for a login."""
    return Service(
        "dashboard",
        [sys.executable, "-m", "app.dashboard"],
        env=app_environment(settings) | {"RQ_DASHBOARD_PORT": str(port)},
        cwd=ROOT,
        log_path=logs / "dashboard.log",
        ready=lambda pid: (
            spawn.listens(pid, port) and http_status(port, "/") == http.HTTPStatus.UNAUTHORIZED
        ),
    )
