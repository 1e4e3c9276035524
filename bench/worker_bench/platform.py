"""The whole platform on this machine, with models that select the bench's pipelines."""

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import asyncpg
import httpx
import psutil  # type: ignore[import-untyped]

from bench.worker_bench.peers.clock import Ear
from bench.worker_bench.pipelines import NoOpWithFile, Spin, plugins
from devstack.settings import fresh_settings, unlimited
from devstack.stack import Stack

START_SECONDS = 60.0
FINAL = ("job.succeeded", "job.failed", "job.cancelled")

_MODEL = """
INSERT INTO models (id, name, description, kind, version, licence, pipeline, queue, prompt_policy,
    parameters, main_artifact, time_limit_seconds)
VALUES ($1, $1, 'for a benchmark', 'nothing-to-nothing', '1', 'MIT', $1, 'cpu', 'none',
    '{"type": "object"}', 'telemetry', 300)
"""


def query(url: str, sql: str, *arguments: object) -> list[Any]:
    """Ask the database."""

    async def ask() -> list[Any]:
        connection = await asyncpg.connect(url.replace("+asyncpg", ""))
        try:
            return list(await connection.fetch(sql, *arguments))
        finally:
            await connection.close()

    return asyncio.run(ask())


@dataclass(frozen=True)
class Event:
    """One event of a job."""

    type: str
    at: str


class Platform:
    """A running stack with its one worker warm, and one client.

    Args:
        stack: the stack.
        ear: hears when runs begin.
    """

    def __init__(self, stack: Stack, ear: Ear) -> None:
        self.stack = stack
        self.ear = ear
        self.http = httpx.Client(
            base_url=f"{stack.api_url}/api/v1/jobs",
            headers={"x-api-key": stack.admin_api_key},
            timeout=START_SECONDS,
            trust_env=False,
        )

    def submit(self, model_id: str, *, heard: bool = True) -> str:
        """Ask for a job; its id. The beginnings of those that are `heard` must be listened to."""
        params = {"socket": str(self.ear.path)} if heard else {}
        answer = self.http.post("/", json={"model_id": model_id, "input_params": params})
        answer.raise_for_status()
        job_id: str = answer.json()["id"]
        return job_id

    def wait(self, job_id: str) -> list[Event]:
        """Listen to a job's event stream until it ends."""
        events = []
        headers = {"Accept": "text/event-stream"}
        with self.http.stream("GET", f"/{job_id}/events", headers=headers) as answer:
            for line in answer.iter_lines():
                if line.startswith("data: ") and '"type"' in line:
                    event = json.loads(line.removeprefix("data: "))
                    events.append(Event(event["type"], event["created_at"]))
                    if event["type"] in FINAL:
                        break
        return events

    def query(self, sql: str, *arguments: object) -> list[Any]:
        """Ask the database."""
        return query(self.stack.database_url, sql, *arguments)

    def cpu_seconds(self) -> dict[str, float]:
        """CPU time that each part has taken so far, with its live children."""
        parts = {part.name: part.pid for part in self.stack.servers}
        parts |= {name: service.pid for name, service in self.stack.services.items()}
        taken = {}
        for name, pid in parts.items():
            root = psutil.Process(pid)
            times = [p.cpu_times() for p in (root, *root.children(recursive=True))]
            taken[name] = sum(time.user + time.system for time in times)
        return taken

    def warm_up(self, jobs: int) -> Self:
        """Run some jobs, the first of which loads what the processes need."""
        for _ in range(jobs):
            self.wait(self.submit(NoOpWithFile.name))
            self.ear.next(START_SECONDS)
        time.sleep(1)
        return self


@contextmanager
def platform(folder: Path) -> Iterator[Platform]:
    """The platform, for as long as the block."""
    folder.mkdir(exist_ok=True)
    settings = (
        fresh_settings()
        | unlimited()
        | {
            "WORKER_PIPELINES": plugins(),
            "WORKER_PRELOAD": NoOpWithFile.name,
            "MAX_ACTIVE_JOBS_PER_USER": "1000",
        }
    )
    ear = Ear(folder / "ear")
    stack = Stack(folder, settings=settings)
    try:
        stack.start_servers()
        stack.migrate()
        for model_id in (NoOpWithFile.name, Spin.name):
            query(stack.database_url, _MODEL, model_id)
        stack.start_services()
        running = Platform(stack, ear)
        yield running
        running.http.close()
    finally:
        stack.stop()
        ear.close()
