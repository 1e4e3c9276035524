"""A stock RQ worker, changed only where FACTS about RQ 2.12 demand it.

It forks one process for each task. To RQ's tools it is an ordinary worker.
"""

import ctypes
import os
import signal
import threading
from contextlib import AbstractContextManager, suppress
from types import FrameType
from typing import Any
from uuid import UUID

import redis
from redis.client import Pipeline, PubSubWorkerThread
from rq import Queue, Worker, worker_registration
from rq.command import handle_command, parse_payload
from rq.exceptions import StopRequested
from rq.job import Job
from rq.serializers import JSONSerializer

from worker_vm import tasks
from worker_vm.logs import get_logger
from worker_vm.redis_link import PatientRetry
from worker_vm.rq_job import AttemptJob
from worker_vm.workspace import Workspace

log = get_logger(__name__)

DEQUEUE_SECONDS = 1
WORKER_TTL_SECONDS = 60
STOP_GRACE_SECONDS = 15.0
_PR_SET_PDEATHSIG = 1


class AttemptWorker(Worker):
    """Serves one queue; each task runs in a forked process, the horse.

    Args:
        queue: the one queue. With several, RQ would lose a task in a crash.
        name: unique for each start.
        connection: to Redis, with `retry`.
        retry: told when waiting for Redis may end.
        workspace: cleared after each task.
        fork_guard: held during a fork.
    """

    job_class = AttemptJob

    def __init__(
        self,
        queue: str,
        *,
        name: str,
        connection: redis.Redis,
        retry: PatientRetry,
        workspace: Workspace,
        fork_guard: AbstractContextManager[Any],
    ) -> None:
        self.stopped_on_request = False
        """Whether the work loop ended because it was told to."""
        self._busy = False
        super().__init__(
            [queue],
            name=name,
            connection=connection,
            serializer=JSONSerializer,
            worker_ttl=WORKER_TTL_SECONDS,
            log_job_description=False,
        )
        self._workspace = workspace
        self._fork_guard = fork_guard
        self._current: Job | None = None
        self._kill_timer: threading.Timer | None = None
        retry.may_stop = lambda: self._stop_requested and not self._busy

    @property
    def dequeue_timeout(self) -> int:
        """Seconds one blocking pop may take.

        Short, because a stop is noticed between two pops: RQ's own way, an exception out of the
        signal handler, leaves a task behind if it had just been popped.
        """
        return DEQUEUE_SECONDS

    @property
    def current_attempt(self) -> UUID | None:
        """The attempt that runs now."""
        job = self._current
        try:
            return None if job is None else UUID(job.id)
        except ValueError:
            return None

    def install_signal_handlers(self) -> None:
        """Stop cleanly on SIGTERM and SIGINT even before the work loop begins."""
        self._install_signal_handlers()  # type: ignore[no-untyped-call]

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Job, Queue] | None:
        """The next task; None when the worker should stop, or the queue is empty in a burst."""
        if timeout is None:
            return super().dequeue_job_and_maintain_ttl(None, max_idle_time)
        while not self._stop_requested:
            result = super().dequeue_job_and_maintain_ttl(timeout, timeout)
            if result is not None:
                return result
        return None

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Run one task in a fork and remove what it leaves behind, however it ends."""
        self._busy = True
        self._current = job
        try:
            super().execute_job(job, queue)
        finally:
            self._current = None
            self._busy = False
            if self._kill_timer is not None:
                self._kill_timer.cancel()
                self._kill_timer = None
            self._workspace.clear()

    def fork_work_horse(self, job: Job, queue: Queue) -> None:
        """Fork while no other thread of ours is in a pipeline's code."""
        with self._fork_guard:
            super().fork_work_horse(job, queue)

    def setup_work_horse_signals(self) -> None:
        """Tie the horse to its parent: the parent alone decides when it stops."""
        _die_with_parent()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # Not SIG_IGN, which programs started by a pipeline would inherit. A service manager may
        # send SIGTERM to all processes; draining means that this one finishes.
        signal.signal(signal.SIGTERM, _ignore)
        signal.signal(signal.SIGUSR1, _stop)

    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:
        """RQ's heartbeat, and the registration again, in case Redis was flushed."""
        if pipeline is None:
            with self.connection.pipeline() as own:
                self.heartbeat(timeout, own)
                own.execute()
            return
        super().heartbeat(timeout, pipeline)
        worker_registration.register(self, pipeline)
        pipeline.hset(self.key, mapping={**self.serialize(), "state": self.get_state()})

    def set_shutdown_requested_date(self) -> None:
        """Nothing: this runs in a signal handler, where Redis must not be waited for."""

    def handle_payload(self, message: dict[str, Any]) -> None:
        """Obey a command from Redis; a malformed one must not end the thread that listens."""
        try:
            payload = parse_payload(message)
            if payload["command"] == "stop-job":
                self._stop_job(payload.get("job_id"))
            else:
                handle_command(self, payload)
        except Exception as error:  # noqa: BLE001
            log.warning("command.ignored", reason=type(error).__name__)

    def teardown(self) -> None:
        """Sign off, unless Redis is away."""
        # From here on waiting for Redis ends at once.
        self._stop_requested = True
        with suppress(redis.RedisError, StopRequested):
            super().teardown()  # type: ignore[no-untyped-call]

    def _shutdown(self) -> None:
        """Stop after the current task. Never raises out of the signal handler."""
        self.stopped_on_request = True
        self._stop_requested = True

    def _stop_job(self, job_id: str | None) -> None:
        """Ask the run to stop and report; kill it if it doesn't."""
        job, horse = self._current, self.horse_pid
        if job is None or horse == 0 or job.id != job_id:
            log.info("command.stale", command="stop-job", rq_job_id=job_id)
            return
        with suppress(ProcessLookupError):
            os.kill(horse, signal.SIGUSR1)
        timer = threading.Timer(STOP_GRACE_SECONDS, self._kill_if_still, (job.id, horse))
        timer.daemon = True
        timer.start()
        self._kill_timer = timer

    def _kill_if_still(self, job_id: str, horse: int) -> None:
        job = self._current
        if job is not None and job.id == job_id and self.horse_pid == horse:
            self._stopped_job_id = job_id
            self.kill_horse()

    def _pubsub_exception_handler(
        self,
        exc: Exception,
        pubsub: Any,  # noqa: ARG002
        pubsub_thread: PubSubWorkerThread,
    ) -> None:
        if isinstance(exc, StopRequested) or self._stop_requested:
            pubsub_thread.stop()
        else:
            log.warning("commands.interrupted", reason=type(exc).__name__)
            threading.Event().wait(1)


def _ignore(_signum: int, _frame: FrameType | None) -> None:
    """Do nothing."""


def _stop(_signum: int, _frame: FrameType | None) -> None:
    tasks.stop_current()


def _die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies, and not leave an orphan."""
    parent = os.getppid()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent or parent == 1:
        os._exit(1)
