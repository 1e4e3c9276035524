"""What an RQ worker writes for each job, in two messages to Redis.

A job that does nothing costs RQ's own worker little but its bookkeeping: 17 messages to Redis with
52 commands, each of which Python writes and each of whose answers Python reads. Here a job is four
messages: popped, read, begun, ended. At every moment Redis holds what RQ's own worker would have
put there; `tests/worker/test_worker_bookkeeping.py` compares the two. The seams are those of RQ
2.12 (`rq/worker/base.py`, `rq/executions.py`).
"""

import math
import time
from functools import cached_property

from redis.client import Pipeline
from rq import Queue, Worker, worker_registration
from rq.executions import Execution
from rq.job import Job, JobStatus
from rq.registry import StartedJobRegistry
from rq.results import Result
from rq.utils import now, utcformat
from rq.worker import WorkerStatus

from worker_vm.redis_batch import RedisBatch

_ONCE_SECONDS = 1.0
"""How often Redis is told, or asked, what RQ tells and asks for each job."""


class ThriftyWorker(Worker):
    """RQ's worker, but for how often it talks to Redis.

    Serves one queue; of what a job may carry it knows no callbacks, webhooks, retries or repeats.
    """

    _registered_at = -math.inf
    _suspension_asked_at = -math.inf

    @cached_property
    def _batch(self) -> RedisBatch:
        return RedisBatch(self.connection)

    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:
        """RQ's heartbeat, and the registration again, in case Redis was flushed; once a second.

        RQ sends five for each job; where Redis was told within the last second they are left out.
        """
        if time.monotonic() - self._registered_at < _ONCE_SECONDS:
            return
        if pipeline is None:
            with self.connection.pipeline(transaction=False) as own:
                self.heartbeat(timeout, own)
                own.execute()
            return
        self._registered_at = time.monotonic()
        super().heartbeat(timeout, pipeline)
        worker_registration.register(self, pipeline)
        pipeline.hset(self.key, mapping={**self.serialize(), "state": self.get_state()})

    def check_for_suspension(self, burst: bool) -> None:  # noqa: FBT001  (RQ's signature)
        """Wait while `rq suspend` holds; asked once a second."""
        if time.monotonic() - self._suspension_asked_at >= _ONCE_SECONDS:
            self._suspension_asked_at = time.monotonic()
            super().check_for_suspension(burst)

    def set_state(self, state: str, pipeline: Pipeline | None = None) -> None:
        """RQ's own, but for telling Redis again what it was told before."""
        if pipeline is not None or state != self.get_state():
            super().set_state(state, pipeline)

    def prepare_execution(self, job: Job) -> Execution:
        """The beginning of a job: it enters the registry and leaves the intermediate list at once.

        RQ writes the same in two transactions and two commands: here, in `prepare_job_execution`
        and in `Job.perform`.
        """
        ttl = self.get_heartbeat_ttl(job)
        self._state = WorkerStatus.BUSY
        self.current_job_working_time = 0
        with self.connection.pipeline() as pipeline:
            execution = Execution.create(job, ttl, pipeline=pipeline, worker_name=self.name)
            self.execution = execution
            pipeline.hset(
                self.key,
                mapping={
                    "state": self._state,
                    "current_job": job.id,
                    "current_job_working_time": self.current_job_working_time,
                },
            )
            self.heartbeat(ttl, pipeline=pipeline)
            job.prepare_for_execution(self.name, pipeline=pipeline)
            pipeline.persist(job.key)
            (queue,) = self.queues
            pipeline.lrem(queue.intermediate_queue_key, 1, job.id)
            self._batch.execute(pipeline)
        return execution

    def prepare_job_execution(
        self,
        job: Job,
        remove_from_intermediate_queue: bool = False,  # noqa: FBT001, FBT002  (RQ's signature)
    ) -> None:
        """Nothing: `prepare_execution` has done it."""

    def handle_execution_ended(
        self,
        job: Job,
        queue: Queue,  # noqa: ARG002  (RQ's signature)
        heartbeat_ttl: int,  # noqa: ARG002
    ) -> None:
        """Note the time. RQ keeps the job alive for its callbacks; there are none."""
        job.ended_at = now()

    def cleanup_execution(self, job: Job, pipeline: Pipeline) -> None:
        """RQ's own, and the worker is idle again with what ends the job."""
        super().cleanup_execution(job, pipeline)
        self.set_state(WorkerStatus.IDLE, pipeline=pipeline)

    def handle_job_success(
        self, job: Job, queue: Queue, started_job_registry: StartedJobRegistry
    ) -> None:
        """The end of a job that has returned.

        RQ asks for the jobs that wait for this one first, and watches lest another one comes. Who
        enqueues such a job watches this one's status, so it is enough to count them as the status
        changes. They are enqueued after that, as RQ does it when a job has failed.
        """
        result_ttl = job.get_result_ttl(self.default_result_ttl)
        if result_ttl == 0:
            # Such a job is deleted with its list of those that wait.
            super().handle_job_success(job, queue, started_job_registry)
            return
        with self.connection.pipeline() as pipeline:
            pipeline.scard(job.dependents_key)
            self._note_success(job, result_ttl, pipeline)
            job.cleanup(result_ttl, pipeline=pipeline, remove_from_queue=False)
            self.cleanup_execution(job, pipeline)
            dependents = self._batch.execute(pipeline)
        if dependents:
            queue.enqueue_dependents(job)

    def _note_success(self, job: Job, result_ttl: int, pipeline: Pipeline) -> None:
        """The worker's counters and the result; of the job itself, only what has changed."""
        assert self.execution is not None
        assert job.started_at is not None
        assert job.ended_at is not None
        self.increment_successful_job_count(pipeline=pipeline)
        self.increment_total_working_time(job.ended_at - job.started_at, pipeline)
        job.last_heartbeat = job.ended_at
        pipeline.hset(
            job.key,
            mapping={
                "status": JobStatus.FINISHED,
                "started_at": utcformat(job.started_at),
                "ended_at": utcformat(job.ended_at),
                "last_heartbeat": utcformat(job.last_heartbeat),
            },
        )
        Result.create(
            job,
            Result.Type.SUCCESSFUL,
            result_ttl,
            return_value=job._result,  # noqa: SLF001  (RQ's own, from `Job.perform`)
            worker_name=self.name,
            pipeline=pipeline,
            execution_id=self.execution.id,
            execution_started_at=self.execution.created_at,
            execution_ended_at=job.ended_at,
        )
        job.finished_job_registry.add(job, result_ttl, pipeline)
