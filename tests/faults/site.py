"""A platform to break one way or process of, and to see what becomes of a job."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from devstack.client import Client
from devstack.processes import Service
from tests.faults.cluster import MODEL, Account, Cluster
from tests.faults.proxy import FaultProxy

PATIENCE = 90.0


@dataclass
class Site:
    """A running platform, and one of its users."""

    cluster: Cluster
    account: Account
    client: Client

    def way(self, name: str) -> FaultProxy:
        """One of the cluster's ways."""
        return self.cluster.ways[name]

    def process(self, name: str) -> Service:
        """One of the cluster's processes."""
        return self.cluster.stack.services[name]

    def create(self, **params: Any) -> str:
        """A new job's id."""
        return str(self.client.create_job(MODEL, params)["id"])

    def end_of(self, job_id: str) -> dict[str, Any]:
        """The job when it has ended."""
        *_, ended = self.client.watch(job_id)
        return ended

    def attempts(self, job_id: str) -> list[str]:
        """How each of the job's attempts ended, oldest first."""
        rows = self.cluster.query(
            f"SELECT status FROM attempts WHERE job_id = '{job_id}' ORDER BY id"  # noqa: S608
        )
        return [row["status"] for row in rows]

    def model_of(self, job_id: str) -> bytes:
        """The one model that the job shows, which is what its record says."""
        (item,) = [i for i in self.client.artifacts(job_id) if i["kind"] == "model_3d"]
        content = httpx.get(item["url"], trust_env=False).content
        assert hashlib.sha256(content).hexdigest() == item["sha256"]
        assert len(content) == item["size_bytes"]
        return content

    def succeeds_once(self, job_id: str) -> bytes:
        """The model of a job that succeeds with its first attempt."""
        assert self.end_of(job_id)["status"] == "SUCCEEDED"
        assert self.attempts(job_id) == ["SUCCEEDED"]
        return self.model_of(job_id)


def wait_until(wanted: Callable[[], object]) -> None:
    """Return as soon as something is so."""
    deadline = time.monotonic() + PATIENCE
    while not wanted():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)
