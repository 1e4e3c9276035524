"""The connection to Redis: waits while Redis is away instead of giving up."""

import time
from collections.abc import Callable
from typing import Any, Self, TypeVar

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry
from rq.exceptions import StopRequested

from worker_vm.logs import get_logger

log = get_logger(__name__)

T = TypeVar("T")

REMIND_SECONDS = 30.0
LONGEST_WAIT = 5.0
_SLICE = 0.2


class PatientRetry(Retry):
    """Tries a Redis command again until it succeeds or the worker is told to stop.

    RQ itself ends a worker whose Redis is away for a few seconds. One object serves all
    connections of a process, so that an outage is logged once and not by each of them.
    """

    def __init__(self) -> None:
        super().__init__(ExponentialBackoff(cap=LONGEST_WAIT, base=0.1), retries=-1)
        self.may_stop: Callable[[], bool] = lambda: False
        """Asked between tries: whether to give up by raising StopRequested."""
        self._away_since: float | None = None
        self._told_at = 0.0

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Each connection copies its retry; ours is shared."""
        return self

    def call_with_retry(
        self,
        do: Callable[[], T],
        fail: Callable[..., Any],
        is_retryable: Callable[[Exception], bool] | None = None,
        with_failure_count: bool = False,  # noqa: FBT001, FBT002  (redis-py's signature)
    ) -> T:
        """See `redis.retry.Retry.call_with_retry`.

        Raises:
            StopRequested: the worker should stop while Redis is away.
        """
        failures = 0
        while True:
            try:
                result = do()
            except self._supported_errors as error:
                if is_retryable is not None and not is_retryable(error):
                    raise
                failures += 1
                if with_failure_count:
                    fail(error, failures)
                else:
                    fail(error)
                self._note_failure(error)
                self._wait(self._backoff.compute(min(failures, 20)))
            else:
                if failures:
                    self._note_success()
                return result

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self.may_stop():
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(_SLICE, left))
        raise StopRequested

    def _note_failure(self, error: Exception) -> None:
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = now
        elif now - self._told_at < REMIND_SECONDS:
            return
        self._told_at = now
        log.warning(
            "redis.away",
            reason=f"{type(error).__name__}: {error}",
            seconds=round(now - self._away_since),
            message="Redis cannot be reached; trying again until it can.",
        )

    def _note_success(self) -> None:
        if self._away_since is not None:
            log.info("redis.back", seconds=round(time.monotonic() - self._away_since, 1))
            self._away_since = None


def connect(url: str, retry: PatientRetry) -> redis.Redis:
    """A client that waits while Redis is away."""
    client: redis.Redis = redis.Redis.from_url(
        url,
        retry=retry,
        socket_connect_timeout=5,
        socket_keepalive=True,
        health_check_interval=30,
    )
    return client
