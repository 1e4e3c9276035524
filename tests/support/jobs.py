"""Looking behind the API: rows that no client sees, and moments that take too long to wait for."""

from collections import Counter
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, text, update

from app.db.base import seconds
from app.db.session import Database
from app.jobs.repository import announce_waiting_job
from app.jobs.tables import Attempt, Job
from app.queueing.dispatcher import Dispatcher


async def current_attempt_id(database: Database, job_id: object) -> UUID:
    """The attempt that a job is in."""
    async with database.transaction() as session:
        job = await session.get_one(Job, UUID(str(job_id)))
        assert job.current_attempt_id is not None
        return job.current_attempt_id


async def dispatch(database: Database, dispatcher: Dispatcher, job_id: object) -> UUID:
    """Dispatch what is due; answers the job's attempt."""
    await dispatcher.run_once()
    return await current_attempt_id(database, job_id)


async def set_job(database: Database, job_id: object, **values: Any) -> None:
    """Write columns of a job past the gate."""
    async with database.transaction() as session:
        await session.execute(update(Job).where(Job.id == UUID(str(job_id))).values(**values))


async def end_lease(database: Database, attempt_id: UUID) -> None:
    """Let an attempt's lease be over."""
    async with database.transaction() as session:
        await session.execute(
            update(Attempt)
            .where(Attempt.id == attempt_id)
            .values(lease_expires_at=func.now() - seconds(1))
        )


async def make_due(database: Database, job_id: object) -> None:
    """Let the wait before a job's next attempt be over."""
    async with database.transaction() as session:
        job = await session.get_one(Job, UUID(str(job_id)))
        job.available_at = func.now()
        await session.flush()
        await session.refresh(job)
        await announce_waiting_job(session, job)


async def attempts_of(database: Database, job_id: object) -> list[Attempt]:
    """Every attempt of a job, oldest first."""
    async with database.transaction() as session:
        return list(
            (
                await session.execute(
                    select(Attempt).where(Attempt.job_id == UUID(str(job_id))).order_by(Attempt.id)
                )
            ).scalars()
        )


async def active_jobs(database: Database) -> Counter[object]:
    """Jobs that hold a slot, by user."""
    async with database.transaction() as session:
        rows = await session.execute(text("SELECT user_id FROM jobs WHERE slot IS NOT NULL"))
        return Counter(rows.scalars())


async def dispatched_order(database: Database) -> list[str]:
    """Jobs in the order of their dispatch."""
    async with database.transaction() as session:
        rows = await session.execute(
            text("SELECT job_id FROM job_events WHERE type = 'job.dispatched' ORDER BY id")
        )
        return [str(job_id) for job_id in rows.scalars()]
