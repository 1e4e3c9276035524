"""The RQ side of dispatching: the only importer of `rq` in the orchestrator.

Redis carries hints: whatever is lost here is pushed again from Postgres. RQ and its client block,
so everything runs in a thread.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import TypeVar
from uuid import UUID

import redis
from rq import Queue
from rq.command import send_command
from rq.intermediate_queue import IntermediateQueue
from rq.serializers import JSONSerializer

from app.jobs.admission import AdmittedAttempt
from app.jobs.lifecycle import GRACE_SECONDS
from app.logs import get_logger
from contract.tasks import RUN_ATTEMPT

log = get_logger(__name__)

T = TypeVar("T")

REDIS_SECONDS = 5.0
"""How long Redis is waited for."""

_BATCH = 100
_RESULT_TTL = 500
_FAILURE_TTL = 7 * 86400
# RQ's own timeout is the last resort, beyond the worker's and the attempt's deadline.
_TIMEOUT_MARGIN = 2 * GRACE_SECONDS


class QueueUnavailableError(Exception):
    """Redis cannot be reached or refuses us."""


class RqQueues:
    """Pushes attempts to RQ queues and tells which are there.

    Args:
        redis_url: where Redis is.
    """

    def __init__(self, redis_url: str) -> None:
        self._redis = _connect(redis_url)

    async def push(self, attempts: Iterable[AdmittedAttempt]) -> None:
        """Push attempts; the RQ job's id is the attempt's, and RQ never retries by itself.

        Raises:
            QueueUnavailableError: some or all may not have been pushed.
        """
        await self._run(self._push, list(attempts))

    def _push(self, attempts: list[AdmittedAttempt]) -> None:
        by_queue: dict[str, list[AdmittedAttempt]] = {}
        for attempt in attempts:
            by_queue.setdefault(attempt.queue, []).append(attempt)
        for name, mine in by_queue.items():
            queue = self._queue(name)
            for start in range(0, len(mine), _BATCH):
                queue.enqueue_many(
                    [
                        Queue.prepare_data(
                            RUN_ATTEMPT,
                            args=(str(attempt.attempt_id),),
                            job_id=str(attempt.attempt_id),
                            timeout=attempt.time_limit_seconds + _TIMEOUT_MARGIN,
                            result_ttl=_RESULT_TTL,
                            failure_ttl=_FAILURE_TTL,
                            description=f"attempt {attempt.attempt_id}",
                        )
                        for attempt in mine[start : start + _BATCH]
                    ]
                )

    async def waiting(self, queue: str) -> set[UUID]:
        """Attempts that wait in a queue.

        RQ also notes what a worker has taken, until a time by that worker's clock: no proof that
        anybody still has it.

        Raises:
            QueueUnavailableError
        """
        found = await self._run(lambda: self._queue(queue).get_job_ids())
        return {UUID(item) for item in found if _is_uuid(item)}

    async def remove(self, queue: str, attempt_ids: Iterable[UUID]) -> None:
        """Take attempts out of a queue if they still wait there.

        Raises:
            QueueUnavailableError
        """
        await self._run(self._remove, queue, [str(attempt_id) for attempt_id in attempt_ids])

    def _remove(self, name: str, attempt_ids: list[str]) -> None:
        queue = self._queue(name)
        intermediate = IntermediateQueue(queue.key, self._redis).key
        with self._redis.pipeline() as pipeline:
            for attempt_id in attempt_ids:
                pipeline.lrem(queue.key, 0, attempt_id)
                pipeline.lrem(intermediate, 0, attempt_id)
                pipeline.delete(f"rq:job:{attempt_id}")
            pipeline.execute()

    async def close(self) -> None:
        """Close the connections."""
        await asyncio.to_thread(self._redis.close)

    def _queue(self, name: str) -> Queue:
        return Queue(name, connection=self._redis, serializer=JSONSerializer)

    async def _run(self, function: Callable[..., T], *args: object) -> T:
        try:
            return await asyncio.to_thread(function, *args)
        except redis.RedisError as error:
            raise QueueUnavailableError(str(error)) from error


class WorkerCommands:
    """Commands to running workers, by Redis; they only make quicker what a heartbeat would do.

    Args:
        redis_url: where Redis is.
    """

    def __init__(self, redis_url: str) -> None:
        self._redis = _connect(redis_url)

    async def stop(self, worker_name: str, attempt_id: UUID) -> None:
        """Ask a worker to stop an attempt; quietly nothing if Redis is away."""
        try:
            await asyncio.to_thread(
                send_command, self._redis, worker_name, "stop-job", job_id=str(attempt_id)
            )
        except redis.RedisError as error:
            log.info("a stop command could not be sent", error=str(error))

    async def close(self) -> None:
        """Close the connections."""
        await asyncio.to_thread(self._redis.close)


def _connect(url: str) -> redis.Redis:
    """A client that asks once: what got no answer may have arrived, and is looked for later."""
    client: redis.Redis = redis.Redis.from_url(
        url,
        socket_timeout=REDIS_SECONDS,
        socket_connect_timeout=REDIS_SECONDS,
        health_check_interval=30,
    )
    return client


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
