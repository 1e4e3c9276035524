"""The worker's process: an RQ worker whose pipelines stay loaded in a child.

Stock RQ forks for every job: models are loaded again each time, CUDA breaks in the fork, and a hung
C call is killed a minute late. Here the task runs in this process, which only talks to the API
and to the pipeline host (`host_process`). To every RQ tool it is an ordinary worker. The seams are
those of RQ 2.12 (`rq/worker/base.py`, `rq/worker/worker_classes.py`).
"""

import signal
import threading
import time
from contextlib import suppress
from queue import SimpleQueue
from types import FrameType
from typing import Any
from uuid import UUID

import redis
from redis.client import PubSubWorkerThread
from rq import Queue
from rq.command import handle_command, parse_payload
from rq.exceptions import StopRequested
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.timeouts import BaseDeathPenalty

from worker_vm.host_pool import HostPool
from worker_vm.logs import get_logger
from worker_vm.redis_link import PatientRetry
from worker_vm.rq_bookkeeping import ThriftyWorker
from worker_vm.rq_job import AttemptJob
from worker_vm.runner import RunHost
from worker_vm.spool_delivery import SpoolDelivery
from worker_vm.workspace import Workspace

log = get_logger(__name__)

DEQUEUE_SECONDS = 1
WORKER_TTL_SECONDS = 60
RQ_HEARTBEAT_SECONDS = 15.0
FORCE_AFTER_SECONDS = 1.0
_HOST_POLL_SECONDS = 0.5


class NoDeathPenalty(BaseDeathPenalty):
    """RQ's own timeout does nothing: the attempt's time limit is kept by its supervisor."""

    def setup_death_penalty(self) -> None:
        """Set no alarm."""

    def cancel_death_penalty(self) -> None:
        """Cancel none."""


class WarmWorker(ThriftyWorker):
    """Serves one queue.

    Args:
        queue: the one queue. With several, RQ would lose a task in a crash.
        name: unique for each start.
        connection: to Redis, with `retry`.
        retry: told when waiting for Redis may end.
        run_host: runs attempts.
        workspace: cleared after each task.
        spool: given what could not be delivered.
        drain_seconds: how long a run may go on after SIGTERM; 0 is for ever.
    """

    job_class = AttemptJob
    death_penalty_class = NoDeathPenalty

    def __init__(
        self,
        queue: str,
        *,
        name: str,
        connection: redis.Redis,
        retry: PatientRetry,
        run_host: RunHost,
        workspace: Workspace,
        spool: SpoolDelivery,
        drain_seconds: float,
    ) -> None:
        self.stopped_on_request = False
        """Whether the work loop ended because it was told to."""
        self.unable = False
        """Whether a burst has ended because no pipeline host starts."""
        self._busy = False
        self._forced = False
        self._asked_at = 0.0
        self._beats: threading.Thread | None = None
        super().__init__(
            [queue],
            name=name,
            connection=connection,
            serializer=JSONSerializer,
            worker_ttl=WORKER_TTL_SECONDS,
            log_job_description=False,
        )
        self._run_host = run_host
        self._pool: HostPool = run_host.pool
        self._workspace = workspace
        self._spool = spool
        self._drain_seconds = drain_seconds
        self._current: Job | None = None
        self._current_lock = threading.Lock()
        retry.may_stop = lambda: self._stop_requested and (self._forced or not self._busy)
        # Its `put` may be called in a signal handler, where no thread may be started.
        self._drain: SimpleQueue[None] = SimpleQueue()
        threading.Thread(target=self._end_drain, name="drain", daemon=True).start()

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
        """The next task, taken only while a pipeline host runs.

        None when the worker should stop; in a burst, when the queue is empty or no host starts.
        """
        while not self._stop_requested:
            self._pool.ensure_started()
            if not self._pool.able:
                if timeout is None and self._pool.hopeless:
                    log.error("worker.unable", message="No pipeline host starts; the burst ends.")
                    self.unable = True
                    return None
                # Another worker may have better luck with what waits in the queue.
                self.heartbeat()
                self._pool.wait(_HOST_POLL_SECONDS)
                continue
            self.check_for_suspension(burst=timeout is None)
            if self._stop_requested:  # while it was suspended
                return None
            if timeout is None:
                return super().dequeue_job_and_maintain_ttl(None, max_idle_time)
            result = super().dequeue_job_and_maintain_ttl(timeout, timeout)
            if result is not None:
                return result
        return None

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Run one task here and now; RQ's bookkeeping is RQ's own."""
        self._busy = True
        with self._current_lock:
            self._current = job
        try:
            self.prepare_execution(job)
            self._beat_from_now_on()
            self.perform_job(job, queue)
        finally:
            with self._current_lock:
                self._current = None
            self._busy = False
            self._spool.take(self._workspace.clear())

    def _beat_from_now_on(self) -> None:
        """Tell RQ that worker and job are alive, from a thread that outlives the job."""
        if self._beats is None:
            self._beats = threading.Thread(target=self._beat, name="rq-heartbeats", daemon=True)
            self._beats.start()

    def _beat(self) -> None:
        while True:
            time.sleep(RQ_HEARTBEAT_SECONDS)
            if (job := self._current) is not None:
                with suppress(redis.RedisError, StopRequested, AttributeError):
                    self.maintain_heartbeats(job)

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

    def request_force_stop(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """A second SIGTERM: hand the attempt back, or keep it on disk if it is finished.

        One that comes at once is the first again: a terminal and a supervisor may both send one.
        """
        if time.monotonic() - self._asked_at < FORCE_AFTER_SECONDS:
            return
        self._force()
        log.warning("worker.forced", signal=signal.Signals(signum).name)

    def _shutdown(self) -> None:
        """Stop after the current task. Never raises out of the signal handler."""
        self.stopped_on_request = True
        self._stop_requested = True
        self._asked_at = time.monotonic()
        self._drain.put(None)

    def _end_drain(self) -> None:
        self._drain.get()
        if self._drain_seconds:
            time.sleep(self._drain_seconds)
            log.warning("worker.drain_over", seconds=self._drain_seconds)
            self._force()

    def _force(self) -> None:
        """Wait for nothing any more, be it the run, the API or Redis."""
        self._forced = True
        self._run_host.shut_down()

    def _stop_job(self, job_id: str | None) -> None:
        """Have the current run stopped if it is this one, not one that came before."""
        with self._current_lock:
            if self._current is None or self._current.id != job_id:
                log.info("command.stale", command="stop-job", rq_job_id=job_id)
                return
            self._run_host.stop_current()

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
