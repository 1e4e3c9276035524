"""Our worker with everything it does for a task but the conversation with the API.

RQ → worker → pipeline host → worker → RQ: what the other workers do for theirs. The rest of a run
(claim, lease, uploads, report) is measured on the whole platform.
"""

import gc
import os
import sys
import tempfile
from pathlib import Path
from typing import Any
from uuid import UUID

from pydantic import SecretStr

from bench.worker_bench.pipelines import plugins
from worker_vm import runner, tasks
from worker_vm.api_client import ApiClient
from worker_vm.control import RunControl
from worker_vm.host_pool import HostPool
from worker_vm.host_protocol import Run
from worker_vm.http_client import make_client
from worker_vm.logs import configure_logging
from worker_vm.redis_link import PatientRetry, connect
from worker_vm.spool_delivery import SpoolDelivery
from worker_vm.warm_worker import WarmWorker
from worker_vm.workspace import Workspace


class _Silent:
    """Hears a run, and has nothing to pass on."""

    def advanced(self, percent: float, stage: str, message: str | None) -> None:
        """Ignore it."""

    def produced(self, kind: str, path: Path, media_type: str) -> None:
        """Ignore it."""

    def streaming(self, kind: str, name: str, media_type: str, descriptor: int) -> None:
        """Ignore it."""

    def streamed(self, name: str, size_bytes: int) -> None:
        """Ignore it."""

    def detected(self, event_type: str, data: dict[str, Any]) -> None:
        """Ignore it."""

    def restarted(self, reason: str) -> None:
        """Ignore it."""

    def free_other_memory(self) -> None:
        """There are no others."""


def run_without_api(host: runner.RunHost, attempt_id: UUID) -> str:
    """In place of `runner.run_attempt`."""
    with tempfile.TemporaryDirectory(dir=host.work_root) as folder:
        command = Run(
            pipeline=os.environ["BENCH_PIPELINE"],
            job_id=str(attempt_id),
            model_id="bench",
            model_version="1",
            params={"number": attempt_id.int},
            prompt=None,
            inputs={},
            work_dir=folder,
        )
        return host.pool.run(command, lambda _: _Silent(), RunControl()).outcome


def no_api() -> ApiClient:
    """Nobody asks for it."""
    return ApiClient("http://127.0.0.1:1", SecretStr("no-such-key"))


def work(queue: str) -> None:
    """Be a worker."""
    configure_logging("warning", "json")
    pool = HostPool(environment={**os.environ, "WORKER_PIPELINES": plugins()})
    workspace = Workspace(Path.cwd())
    run_host = runner.RunHost("bench", no_api(), make_client(), workspace.folder, pool)
    runner.run_attempt = run_without_api
    tasks.configure(run_host)
    retry = PatientRetry()
    worker = WarmWorker(
        queue,
        name=f"bench-{os.getpid()}",
        connection=connect(os.environ["BENCH_REDIS"], retry),
        retry=retry,
        run_host=run_host,
        workspace=workspace,
        spool=SpoolDelivery(run_host),
        drain_seconds=0,
    )
    gc.collect()
    gc.freeze()
    try:
        worker.work(logging_level="WARNING")
    finally:
        pool.stop()
        workspace.close()


if __name__ == "__main__":
    work(sys.argv[1])
