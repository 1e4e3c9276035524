"""The whole stack, as `make up` and the end-to-end tests run it."""

import contextlib
import socket
from dataclasses import asdict
from pathlib import Path

import httpx
import psutil
import pytest

from devstack import spawn
from devstack.client import ApiError, Client
from devstack.errors import DevstackError
from devstack.ports import HOST
from devstack.processes import Service
from devstack.stack import Ports, Stack


def test_stack_starts_and_leaves_nothing(tmp_path: Path) -> None:
    """All parts answer once it has started, and no process is left when it has stopped."""
    with Stack(tmp_path, fast=True) as stack:
        stack.check()
        assert httpx.get(f"{stack.api_url}/readyz").json()["status"] == "ok"
        assert httpx.get(stack.dashboard_url).status_code == 401
        pids = [part.pid for part in [*stack.servers, *stack.services.values()]]
        pids += [child.pid for pid in pids for child in spawn.descendants(pid)]

        environment = psutil.Process(stack.services["worker"].pid).environ()
        secret = stack.settings["MINIO_SECRET_KEY"]
        assert secret not in environment.values()
        assert stack.database_url not in environment.values()

        with Client(stack.api_url, "wrong") as client, pytest.raises(ApiError) as refused:
            client.create_job("inflate-v1", {})
        assert refused.value.status == 401

        stack.services["worker"].kill()
        with pytest.raises(DevstackError, match="worker ended by itself"):
            stack.check()
        assert stack.add_worker("second").running
    assert [pid for pid in pids if spawn.started_at(pid) is not None] == []


def test_stack_moves_from_busy_ports(tmp_path: Path) -> None:
    """Beside a program on every usual port, each part finds another and answers there."""
    with contextlib.ExitStack() as others:
        wanted = {}
        for name in ("api", "dashboard", "s3", "postgres", "redis"):
            other = others.enter_context(socket.socket())
            other.bind((HOST, 0))
            other.listen()
            wanted[name] = other.getsockname()[1]
        with Stack(tmp_path, listen=Ports(**wanted), fast=True) as stack:
            assert set(asdict(stack.ports).values()).isdisjoint(wanted.values())
            assert httpx.get(f"{stack.api_url}/readyz").json()["status"] == "ok"


def test_failed_start_stops_what_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a step fails, its log is in the error and the servers are gone."""
    monkeypatch.setattr(Service, "run", lambda service: service.log_path.touch() or 1)
    tmp_path.joinpath("logs").mkdir()
    stack = Stack(tmp_path, fast=True)
    with pytest.raises(DevstackError, match="migrate ended with status"):
        stack.start()
    assert [server.name for server in stack.servers if server.running] == []
