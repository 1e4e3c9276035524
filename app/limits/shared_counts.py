"""The counts that all processes share, in Redis by `limits`: quick to answer, or not asked.

Nothing here waits longer than a fraction of a second. After a failure Redis counts as away until a
look in the background finds it again, so that no request waits for it in vain a second time.
"""

import asyncio
import time
from collections.abc import Awaitable
from typing import Any, TypeVar

from limits.aio.storage import RedisStorage
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from app.limits.policies import Policy
from app.limits.window import Window
from app.logs import get_logger

log = get_logger(__name__)

T = TypeVar("T")

_UNLIMITED = 1 << 52
"""As a limit: whole numbers of Lua are exact up to 2^53."""

_CONNECTIONS = 32


class SharedCountsAwayError(Exception):
    """Redis does not answer in time."""


class SharedCounts:
    """Sliding window counters in Redis, by Redis' own clock.

    Args:
        redis_url: where they are.
        timeout: how many seconds an answer may take.
    """

    def __init__(self, redis_url: str, timeout: float) -> None:
        self._timeout = timeout
        self._pool = BlockingConnectionPool.from_url(
            redis_url,
            timeout=timeout,
            max_connections=_CONNECTIONS,
            socket_connect_timeout=timeout,
            socket_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
        )
        options: dict[str, Any] = {"connection_pool": self._pool}
        self._storage = RedisStorage("async+redis://", implementation="redispy", **options)
        self.away = False

    async def tell(self, policy: Policy, subject: str, amount: int) -> None:
        """Add requests that have been admitted already.

        Raises:
            SharedCountsAwayError: it may or may not have been done.
        """
        await self._ask(
            self._storage.acquire_sliding_window_entry(
                _key(policy, subject), _UNLIMITED, policy.seconds, amount
            )
        )

    async def acquire(self, policy: Policy, subject: str) -> bool:
        """Count one more request, if the quota has room for it; whether it had.

        Raises:
            SharedCountsAwayError: it may or may not have been done.
        """
        return await self._ask(
            self._storage.acquire_sliding_window_entry(
                _key(policy, subject), policy.quota, policy.seconds
            )
        )

    async def read(self, policy: Policy, subject: str) -> Window:
        """The counts as they are now.

        Raises:
            SharedCountsAwayError
        """
        previous, _, current, expires_in = await self._ask(
            self._storage.get_sliding_window(_key(policy, subject), policy.seconds)
        )
        # A window's key lives for as long again, as the previous one.
        left = expires_in - policy.seconds
        ends_at = time.monotonic() + (left if left > 0 else policy.seconds)
        return Window(policy.seconds, ends_at, previous, current)

    async def look_again(self) -> None:
        """Find out whether Redis is back."""
        try:
            async with asyncio.timeout(self._timeout):
                await self._storage.get("back?")
        except (RedisError, OSError, TimeoutError):
            return
        self.away = False
        log.warning("requests are counted in Redis again")

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.aclose()

    async def _ask(self, question: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._timeout):
                return await question
        except (RedisError, OSError, TimeoutError) as error:
            if not self.away:
                self.away = True
                log.warning(
                    "Redis does not answer in time; each process counts requests by itself",
                    error=f"{type(error).__name__}: {error}"[:200],
                )
            raise SharedCountsAwayError from error


def _key(policy: Policy, subject: str) -> str:
    return f"{policy.name}/{policy.seconds}/{subject}"
