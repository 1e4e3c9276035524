"""The worker's own heartbeat: a thread that tells the API what this worker is and can do."""

import os
import re
import secrets
import socket
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

from contract.workers import PipelineStatus, WorkerHeartbeat
from worker_vm import __version__, capabilities
from worker_vm.api_client import ApiClient, ApiError
from worker_vm.backoff import RetryPolicy
from worker_vm.logs import get_logger

log = get_logger(__name__)

INTERVAL_SECONDS = 30.0
RETRY = RetryPolicy(first_wait=1, longest_wait=30)


def unique_name() -> str:
    """A worker's name, new for each start: RQ refuses one that a killed worker still holds."""
    host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname()).strip(".-")[:80] or "worker"
    return f"{host}-{os.getpid()}-{secrets.token_hex(4)}"


class Presence:
    """Reports a worker at start, regularly, and once more when it stops.

    Args:
        name: the worker's name.
        queue: the queue it serves.
        open_api: makes the thread's own API client.
        current_attempt: the attempt that runs now.
        pipelines: what can be run, and what is loaded.
    """

    def __init__(
        self,
        *,
        name: str,
        queue: str,
        open_api: Callable[[], ApiClient],
        current_attempt: Callable[[], UUID | None],
        pipelines: Callable[[], list[PipelineStatus]],
    ) -> None:
        self._pipelines = pipelines
        self._name = name
        self._queue = queue
        self._open_api = open_api
        self._current_attempt = current_attempt
        self._started_at = datetime.now(UTC)
        self._stopping = False
        self._woken = threading.Event()
        self._failures = 0
        self._thread = threading.Thread(target=self._loop, name="presence", daemon=True)

    def start(self) -> None:
        """Begin to report."""
        self._thread.start()

    def stop(self) -> None:
        """Report that the worker stops, if the API answers, and end the thread."""
        self._stopping = True
        self._woken.set()
        self._thread.join()

    def report_soon(self) -> None:
        """Something worth telling has changed."""
        self._woken.set()

    def describe(self, *, stopping: bool = False) -> WorkerHeartbeat:
        """What the worker is now."""
        return WorkerHeartbeat(
            name=self._name,
            hostname=socket.gethostname()[:255],
            version=__version__,
            queue=self._queue,
            started_at=self._started_at,
            cpu_count=capabilities.cpu_count(),
            memory_total_mib=capabilities.memory_total_mib(),
            gpus=capabilities.find_gpus(),
            versions=capabilities.library_versions(),
            pipelines=self._pipelines(),
            current_attempt_id=self._current_attempt(),
            stopping=stopping,
        )

    def _loop(self) -> None:
        api = self._open_api()
        while not self._stopping:
            self._woken.clear()
            self._woken.wait(self._report(api, stopping=False))
        self._report(api, stopping=True)
        api.close()

    def _report(self, api: ApiClient, *, stopping: bool) -> float:
        """Send one report; the seconds until the next."""
        try:
            reply = api.worker_heartbeat(self.describe(stopping=stopping))
        except ApiError as error:
            self._failures += 1
            if self._failures == 1:
                log.warning("presence.failed", reason=str(error))
            return RETRY.wait(self._failures)
        except Exception:
            # A bug here must not silence the worker for good.
            log.exception("presence.broken")
            return INTERVAL_SECONDS
        if self._failures:
            log.info("presence.recovered", failures=self._failures)
            self._failures = 0
        return max(1.0, float(reply.next_heartbeat_seconds))
