"""How far down the queue a job is, and how long it may take; estimates, never promises."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.jobs.tables import Job
from app.workers.service import Fleet

MAX_POSITION = 1000
"""Positions are counted up to here, so that asking costs the same however long the queue is."""

_RUN_SAMPLE = 50

# Under round robin, the jobs ahead of the r-th job of one user and model are its own r - 1 and, of
# each other place in the round with something waiting, the first r at most.
_JOBS_AHEAD = text("""
WITH mine AS (
    SELECT count(*) AS rank FROM (
        (
            SELECT 1 FROM jobs
            WHERE user_id = :user_id AND queue = :queue AND model_id = :model_id
              AND status = 'QUEUED' AND slot IS NULL AND priority > :priority
            LIMIT :limit
        ) UNION ALL (
            SELECT 1 FROM jobs
            WHERE user_id = :user_id AND queue = :queue AND model_id = :model_id
              AND status = 'QUEUED' AND slot IS NULL AND priority = :priority AND seq < :seq
            LIMIT :limit
        )
    ) own
)
SELECT (SELECT rank FROM mine) + (
    SELECT count(*) FROM (
        SELECT 1
        FROM user_queue u
        CROSS JOIN LATERAL (
            SELECT 1 FROM jobs j
            WHERE j.user_id = u.user_id AND j.queue = u.queue AND j.model_id = u.model_id
              AND j.status = 'QUEUED' AND j.slot IS NULL
            LIMIT (SELECT rank + 1 FROM mine)
        ) waiting
        WHERE u.queue = :queue AND u.ready_at IS NOT NULL
          AND (u.user_id, u.model_id) <> (:user_id, :model_id)
        LIMIT :limit
    ) others
)
""")

_RUN_SECONDS = text("""
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) FROM (
    SELECT extract(epoch FROM finished_at - started_at) AS seconds
    FROM attempts WHERE model_id = :model_id AND status = 'SUCCEEDED'
    ORDER BY finished_at DESC LIMIT :sample
) recent
""")

_DISPATCHED_AHEAD = text("""
SELECT count(*) FROM attempts
WHERE queue = :queue AND status IN ('DISPATCHED', 'RUNNING') AND job_id <> :job_id
""")


@dataclass(frozen=True)
class Estimate:
    """What can be said of a job that waits."""

    queue_position: int
    wait_seconds: float | None
    run_seconds: float | None

    @property
    def eta_seconds(self) -> float | None:
        """Seconds until it has ended, if both parts are known."""
        if self.wait_seconds is None or self.run_seconds is None:
            return None
        return self.wait_seconds + self.run_seconds


async def median_run_seconds(session: AsyncSession, model_id: str) -> float | None:
    """How long the model's latest successful attempts ran; None before the first."""
    value = (
        await session.execute(_RUN_SECONDS, {"model_id": model_id, "sample": _RUN_SAMPLE})
    ).scalar_one()
    return None if value is None else float(value)


def remaining_seconds(typical: float | None, progress_percent: float) -> float | None:
    """Seconds to the end of a run, as of its last report: so the answer only changes with it."""
    return None if typical is None else typical * (1 - progress_percent / 100)


async def estimate_waiting_job(session: AsyncSession, job: Job, fleet: Fleet) -> Estimate:
    """The estimate for a QUEUED job; position 1 is the next to be taken."""
    return await _estimate(
        session,
        fleet,
        job_id=job.id,
        user_id=job.user_id,
        queue=job.queue,
        model_id=job.model_id,
        ahead={"priority": job.priority, "seq": job.seq} if job.slot is None else None,
    )


async def estimate_new_job(
    session: AsyncSession, fleet: Fleet, *, user_id: UUID, queue: str, model_id: str
) -> Estimate:
    """The estimate for a job that would be created now."""
    return await _estimate(
        session,
        fleet,
        job_id=UUID(int=0),
        user_id=user_id,
        queue=queue,
        model_id=model_id,
        ahead={"priority": 0, "seq": (1 << 63) - 1},
    )


async def _estimate(
    session: AsyncSession,
    fleet: Fleet,
    *,
    job_id: UUID,
    user_id: UUID,
    queue: str,
    model_id: str,
    ahead: dict[str, int] | None,
) -> Estimate:
    waiting = 0
    if ahead is not None:
        waiting = (
            await session.execute(
                _JOBS_AHEAD,
                {
                    "user_id": user_id,
                    "queue": queue,
                    "model_id": model_id,
                    "limit": MAX_POSITION,
                    **ahead,
                },
            )
        ).scalar_one()
    position = min(waiting + 1, MAX_POSITION)
    run_seconds = await median_run_seconds(session, model_id)
    workers = fleet.on_queue(queue)
    wait_seconds = None
    if run_seconds is not None and workers:
        active = (
            await session.execute(_DISPATCHED_AHEAD, {"queue": queue, "job_id": job_id})
        ).scalar_one()
        before = max(active + position - workers, 0) if ahead is not None else 0
        wait_seconds = before * run_seconds / workers
    return Estimate(position, wait_seconds, run_seconds)
