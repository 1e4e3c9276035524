"""Dispatch: admit jobs in Postgres, push their attempts to Redis, and push again what got lost."""

import time
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.db.base import seconds
from app.db.session import Database
from app.jobs.admission import AdmittedAttempt, admit_jobs
from app.jobs.lifecycle import AttemptStatus
from app.jobs.recovery import withdraw
from app.jobs.tables import Attempt
from app.logs import get_logger
from app.queueing.rq_queue import QueueUnavailableError, RqQueues
from app.workers.api_pulse import api_answers
from app.workers.tables import Worker

log = get_logger(__name__)

LOST_AFTER_SECONDS = 5.0
"""How long an attempt may be neither in its queue nor claimed: many times what a claim takes."""

_BATCH = 500


class Dispatcher:
    """One pass admits, pushes and verifies; any number of dispatchers may run side by side."""

    def __init__(
        self,
        database: Database,
        queues: RqQueues,
        settings: Settings,
        *,
        lost_after_seconds: float = LOST_AFTER_SECONDS,
    ) -> None:
        self._database = database
        self._queues = queues
        self._settings = settings
        self._lost_after = lost_after_seconds
        self._missing_since: dict[UUID, float] = {}
        """By our own clock, for no other is comparable; a restart only makes us wait again."""

    async def run_once(self) -> int:
        """Admit what is due, pushing each batch at once; returns how many attempts were admitted.

        If Redis is away nothing is lost: the attempts stay DISPATCHED and are pushed by a later
        pass, of this dispatcher or another.
        """
        total = 0
        while True:
            async with self._database.transaction() as session:
                admitted = await admit_jobs(session, self._settings)
            if not admitted:
                return total
            total += len(admitted)
            await self._push(admitted)

    async def push_lost(self) -> int:
        """Push again attempts that wait in no queue and that nobody has claimed; returns how many.

        It does not matter who has lost them: Redis, a dispatcher before the push, or a worker that
        took one and died, or cannot reach the API. Nor whether they are lost at all: of two workers
        that hold the same attempt only one is granted its claim.
        """
        async with self._database.transaction() as session:
            if not (await session.execute(select(api_answers(self._settings)))).scalar_one():
                self._missing_since.clear()
                return 0  # nobody could have claimed anything
            unclaimed = await self._find_unclaimed(session)
        try:
            missing = await self._find_missing(unclaimed)
            lost = self._missing_for_long(missing)
            for queue in {attempt.queue for attempt in lost}:
                # A worker that died while taking it may have left it half way.
                mine = [attempt.attempt_id for attempt in lost if attempt.queue == queue]
                await self._queues.remove(queue, mine)
        except QueueUnavailableError as error:
            log.warning("redis is away; attempts wait in the database", error=str(error))
            return 0
        if lost:
            log.warning("pushing again what is not in redis", attempts=len(lost))
            await self._push(lost)
        return len(lost)

    async def withdraw_stranded(self) -> int:
        """Take back attempts on queues that no live worker takes from, so that they hold no slot.

        Returns:
            How many.
        """
        live = self._settings.worker_live_seconds
        served = select(Worker.queue).where(
            Worker.last_seen_at > func.now() - seconds(live), ~Worker.stopping
        )
        async with self._database.transaction() as session:
            stranded = (
                await session.execute(
                    select(Attempt.id, Attempt.queue)
                    .where(
                        Attempt.status == AttemptStatus.DISPATCHED.value,
                        Attempt.dispatched_at < func.now() - seconds(live),
                        Attempt.queue.not_in(served),
                    )
                    .limit(_BATCH)
                )
            ).all()
        withdrawn = 0
        for attempt_id, queue in stranded:
            try:
                async with self._database.transaction() as session:
                    withdrawn += await withdraw(session, attempt_id)
                await self._queues.remove(queue, [attempt_id])
            except QueueUnavailableError:
                log.debug("redis is away; a withdrawn attempt will be refused at claim")
            except Exception:
                # One that cannot be withdrawn now must not hold up the others.
                log.exception("an attempt could not be withdrawn", attempt_id=str(attempt_id))
        if withdrawn:
            log.info("withdrew attempts that nobody is there to take", attempts=withdrawn)
        return withdrawn

    async def _find_unclaimed(self, session: AsyncSession) -> list[AdmittedAttempt]:
        rows = await session.execute(
            select(Attempt.id, Attempt.queue, Attempt.time_limit_seconds)
            .where(Attempt.status == AttemptStatus.DISPATCHED.value)
            .order_by(Attempt.dispatched_at)
        )
        # No limit: their number is bounded by what live workers can take.
        return [AdmittedAttempt(row.id, row.queue, row.time_limit_seconds) for row in rows]

    async def _find_missing(self, attempts: list[AdmittedAttempt]) -> list[AdmittedAttempt]:
        missing: list[AdmittedAttempt] = []
        for queue in {attempt.queue for attempt in attempts}:
            waiting = await self._queues.waiting(queue)
            missing += [a for a in attempts if a.queue == queue and a.attempt_id not in waiting]
        return missing

    def _missing_for_long(self, missing: list[AdmittedAttempt]) -> list[AdmittedAttempt]:
        now = time.monotonic()
        self._missing_since = {
            attempt.attempt_id: self._missing_since.get(attempt.attempt_id, now)
            for attempt in missing
        }
        return [
            attempt
            for attempt in missing
            if now - self._missing_since[attempt.attempt_id] >= self._lost_after
        ]

    async def _push(self, attempts: list[AdmittedAttempt]) -> None:
        try:
            await self._queues.push(attempts)
        except QueueUnavailableError as error:
            log.warning("redis is away; attempts wait in the database", error=str(error))
            return
        for attempt in attempts:
            self._missing_since.pop(attempt.attempt_id, None)
        log.info("dispatched", attempts=[str(attempt.attempt_id) for attempt in attempts])
