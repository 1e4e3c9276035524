"""Dispatch: admit jobs in Postgres, push their attempts to Redis, and push again what got lost."""

from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.db.session import Database
from app.jobs.admission import AdmittedAttempt, admit_jobs
from app.jobs.lifecycle import AttemptStatus
from app.jobs.recovery import withdraw
from app.jobs.repository import seconds
from app.jobs.tables import Attempt
from app.logs import get_logger
from app.queueing.rq_queue import QueueUnavailableError, RqQueues
from app.workers.tables import Worker

log = get_logger(__name__)

VERIFY_AFTER_SECONDS = 5.0
"""How long a pushed attempt may be unclaimed before it is looked for in Redis."""

_BATCH = 500


class Dispatcher:
    """One pass admits, pushes and verifies; any number of dispatchers may run side by side."""

    def __init__(
        self,
        database: Database,
        queues: RqQueues,
        settings: Settings,
        *,
        verify_after_seconds: float = VERIFY_AFTER_SECONDS,
    ) -> None:
        self._database = database
        self._queues = queues
        self._settings = settings
        self._verify_after = verify_after_seconds

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
        """Push again attempts that are DISPATCHED but not in Redis; returns how many.

        Whatever is pushed twice dies at claim: only the first claim of an attempt is granted.
        """
        async with self._database.transaction() as session:
            unproven = await self._find_unproven(session)
        lost: list[AdmittedAttempt] = []
        try:
            for queue in {attempt.queue for attempt in unproven}:
                present = await self._queues.present(queue)
                mine = [a for a in unproven if a.queue == queue and a.attempt_id not in present]
                # A worker that died while taking it may have left it half way.
                await self._queues.remove(queue, [attempt.attempt_id for attempt in mine])
                lost += mine
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

    async def _find_unproven(self, session: AsyncSession) -> list[AdmittedAttempt]:
        seen_before = func.now() - seconds(self._verify_after)
        rows = await session.execute(
            select(Attempt.id, Attempt.queue, Attempt.time_limit_seconds)
            .where(
                Attempt.status == AttemptStatus.DISPATCHED.value,
                func.coalesce(Attempt.pushed_at, Attempt.dispatched_at) < seen_before,
            )
            .order_by(Attempt.dispatched_at)
        )
        # No limit: their number is bounded by what live workers can take.
        return [AdmittedAttempt(row.id, row.queue, row.time_limit_seconds) for row in rows]

    async def _push(self, attempts: list[AdmittedAttempt]) -> None:
        try:
            await self._queues.push(attempts)
        except QueueUnavailableError as error:
            log.warning("redis is away; attempts wait in the database", error=str(error))
            return
        ids: list[UUID] = [attempt.attempt_id for attempt in attempts]
        async with self._database.transaction() as session:
            await session.execute(
                update(Attempt).where(Attempt.id.in_(ids)).values(pushed_at=func.now())
            )
        log.info("dispatched", attempts=[str(attempt_id) for attempt_id in ids])
