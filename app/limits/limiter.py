"""Counting requests, and refusing those that are too many.

Asking Redis about each request would cost more than answering a poll does. So a process admits by
what it knows, up to a twentieth of a quota, before it tells Redis and learns what the others have
admitted; only near the end of the quota is Redis asked about each one (docs/decisions/0021). What
is surely too much is refused without asking anybody.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from uuid import UUID

from app.accounts.principal import Principal
from app.config import Settings
from app.limits.errors import RateLimitExceededError
from app.limits.policies import Kind, Policies, Policy
from app.limits.shared_counts import SharedCounts, SharedCountsAwayError
from app.limits.window import Window

STANDINGS = "rate_limit"
"""Where in a request's state it is kept what was counted, for its answer's headers."""

_TELL_SECONDS = 5.0
"""How long admitted requests may be unknown to the other processes."""

_LOOK_SECONDS = 1.0
_MOST_BUCKETS = 100_000

_Scope = MutableMapping[str, Any]


class Standing(NamedTuple):
    """What is left of a quota, and in how many seconds its window is over."""

    policy: Policy
    remaining: int
    seconds: int


class _Bucket:
    """One caller's use of one quota, as far as this process knows."""

    __slots__ = (
        *("asking", "known", "pending", "policy", "subject", "told_at", "touched_at", "window"),
    )

    def __init__(self, policy: Policy, subject: str, now: float) -> None:
        self.policy = policy
        self.subject = subject
        self.window = Window(policy.seconds, now + policy.seconds)
        self.known = 0
        """Used, when Redis was last asked. It does not pass with time: who was near the end of the
        quota is asked about again."""
        self.pending = 0
        self.asking = asyncio.Lock()
        self.told_at = now
        self.touched_at = now

    def admit_by_what_is_known(self, now: float) -> bool | None:
        """Whether one more fits; None if that has to be asked."""
        self.touched_at = now
        policy = self.policy
        if self.window.used(now) >= policy.quota:
            return False
        if self.pending < policy.share and self.known + self.pending < policy.quota - policy.margin:
            self._add(now)
            return True
        return None

    def admit_alone(self, now: float) -> bool:
        """Whether one more fits what this process itself has admitted."""
        self.touched_at = now
        if self.window.used(now) >= self.policy.quota:
            return False
        self._add(now)
        return True

    def _add(self, now: float) -> None:
        if not self.pending:
            self.told_at = now
        self.pending += 1
        self.window.add(now)

    async def tell(self, shared: SharedCounts) -> None:
        """Let the others know what was admitted here."""
        # What was admitted long ago, while Redis was away, has passed by already.
        pending, self.pending = min(self.pending, self.window.used(time.monotonic())), 0
        if pending:
            try:
                await shared.tell(self.policy, self.subject, pending)
            except SharedCountsAwayError:
                self.pending += pending
                raise

    async def learn(self, shared: SharedCounts) -> None:
        """See what all have admitted."""
        window = await shared.read(self.policy, self.subject)
        window.current += self.pending
        self.window = window
        self.known = window.used(time.monotonic()) - self.pending

    async def ask(self, shared: SharedCounts) -> bool:
        """Whether one more fits, by the counts of all processes; it is counted there.

        One after the other, so that nobody can keep Redis busy by asking for too much.

        Raises:
            SharedCountsAwayError
        """
        async with self.asking:
            if shared.away:
                raise SharedCountsAwayError
            known = self.admit_by_what_is_known(time.monotonic())
            if known is not None:
                return known
            await self.tell(shared)
            admitted = await shared.acquire(self.policy, self.subject)
            await self.learn(shared)
            return admitted

    def standing(self, now: float) -> Standing:
        """What is left."""
        remaining = max(0, self.policy.quota - self.window.used(now))
        return Standing(self.policy, remaining, self.window.seconds_left(now))

    def refusal(self, now: float) -> RateLimitExceededError:
        """The error that says when to come again."""
        policy = self.policy
        wait = self.window.free_in(policy.quota, now)
        return RateLimitExceededError(
            f"Too many {policy.kind.described}: {policy.whose} has {policy.quota} in "
            f"{policy.seconds} seconds. Wait {wait} seconds.",
            wait,
        )


class Limiter:
    """Counts the requests of all callers; one of each process.

    Args:
        settings: how many are too many, and where Redis is.
    """

    def __init__(self, settings: Settings) -> None:
        self._policies = Policies.of(settings)
        self._shared = SharedCounts(settings.redis_url, settings.rate_limit_redis_seconds)
        self._buckets: dict[tuple[str, UUID | str], _Bucket] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Tell the other processes, now and then and at the end, what was admitted here."""
        telling = asyncio.create_task(self._keep_telling(), name="limits-tell")
        try:
            yield
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
            await self._tell_all(time.monotonic())
            await self._shared.close()

    async def count(self, scope: _Scope, principal: Principal, kind: Kind = Kind.REQUESTS) -> None:
        """Count a person's request.

        While Redis is away requests go on; new jobs are limited by what this process has admitted.

        Raises:
            RateLimitExceededError: it is one too many for the user or the key.
        """
        policy = self._policies.user.get(kind)
        if policy:
            await self._count(scope, policy, principal.user_id)
        policy = self._policies.key.get(kind)
        if policy and principal.key_id:
            await self._count(scope, policy, principal.key_id)

    async def count_address(self, scope: _Scope, address: str) -> None:
        """Count a request of nobody knows whom.

        Raises:
            RateLimitExceededError: it is one too many for the address.
        """
        if self._policies.address:
            await self._count(scope, self._policies.address, address)

    async def _count(self, scope: _Scope, policy: Policy, subject: UUID | str) -> None:
        now = time.monotonic()
        bucket = self._buckets.get((policy.name, subject))
        if bucket is None:
            bucket = _Bucket(policy, str(subject), now)
            self._buckets[policy.name, subject] = bucket
        admitted = None if self._shared.away else bucket.admit_by_what_is_known(now)
        if admitted is None:
            admitted = await self._ask(bucket, now)
        scope["state"].setdefault(STANDINGS, []).append(bucket.standing(now))
        if not admitted:
            raise bucket.refusal(now)

    async def _ask(self, bucket: _Bucket, now: float) -> bool:
        if not self._shared.away:
            with contextlib.suppress(SharedCountsAwayError):
                return await bucket.ask(self._shared)
        return bucket.admit_alone(now) or bucket.policy.kind is not Kind.CREATES

    async def _keep_telling(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if self._shared.away:
                await self._shared.look_again()
            now = time.monotonic()
            self._forget_idle(now)
            await self._tell_all(now - _TELL_SECONDS)

    async def _tell_all(self, untold_since: float) -> None:
        """Tell of buckets whose first untold request is as old as that."""
        for bucket in list(self._buckets.values()):
            if self._shared.away:
                return
            if bucket.pending and bucket.told_at <= untold_since:
                with contextlib.suppress(SharedCountsAwayError):
                    await bucket.tell(self._shared)
                    await bucket.learn(self._shared)

    def _forget_idle(self, now: float) -> None:
        if len(self._buckets) > _MOST_BUCKETS:
            self._buckets.clear()
        for key, bucket in list(self._buckets.items()):
            if bucket.touched_at < now - 2 * bucket.policy.seconds:
                del self._buckets[key]
