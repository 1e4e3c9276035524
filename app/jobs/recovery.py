"""Attempts without a worker: taken over when it is silent, withdrawn when none is left."""

from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.jobs.lifecycle import AttemptStatus, JobStatus
from app.jobs.outcomes import end_attempt, fail_or_retry
from app.jobs.repository import (
    announce_waiting_job,
    lock_job_of_attempt,
    move_attempt,
    record_event,
    wake_user,
)
from app.jobs.tables import Job
from contract.attempts import FailureCode


async def take_over(session: AsyncSession, settings: Settings, attempt_id: UUID) -> Job | None:
    """Declare a silent attempt LOST and decide what becomes of its job.

    Returns:
        The job, or None if the attempt has reported or ended in the meantime.
    """
    found = await lock_job_of_attempt(session, attempt_id)
    if found is None:
        return None
    job, attempt = found.job, found.attempt
    now = (await session.execute(select(func.now()))).scalar_one()
    if (
        attempt.status != AttemptStatus.RUNNING
        or attempt.lease_expires_at is None
        or attempt.lease_expires_at >= now
    ):
        return None
    timed_out = attempt.deadline_at is not None and now >= attempt.deadline_at
    code = FailureCode.TIME_LIMIT_EXCEEDED if timed_out else FailureCode.WORKER_LOST
    message = (
        f"The attempt ran longer than the model's limit of {attempt.time_limit_seconds} s."
        if timed_out
        else f"The worker {attempt.worker_name} stopped answering."
    )
    await end_attempt(
        session, attempt, AttemptStatus.LOST, error_code=code.value, error_message=message
    )
    await record_event(
        session,
        job.id,
        "attempt.lost",
        attempt_id=attempt.id,
        data={"worker": attempt.worker_name, "code": code.value},
    )
    return await fail_or_retry(
        session, settings, job, attempt, code.value, message, permanent=timed_out
    )


async def withdraw(session: AsyncSession, attempt_id: UUID) -> bool:
    """Take back a dispatched attempt that nobody has claimed; its job waits again.

    Returns:
        Whether it was still unclaimed.
    """
    found = await lock_job_of_attempt(session, attempt_id)
    if found is None or found.attempt.status != AttemptStatus.DISPATCHED:
        return False
    job, attempt = found.job, found.attempt
    await move_attempt(
        session,
        attempt.id,
        AttemptStatus.RELEASED,
        expected={AttemptStatus.DISPATCHED},
    )
    if job.current_attempt_id == attempt.id and job.status == JobStatus.QUEUED:
        await _release_slot(session, job)
    await record_event(session, job.id, "attempt.withdrawn", attempt_id=attempt.id)
    return True


async def _release_slot(session: AsyncSession, job: Job) -> None:
    """Put a QUEUED job that was dispatched back among those that wait."""
    await session.execute(
        update(Job)
        .where(Job.id == job.id)
        .values(slot=None, stage=None)
        .execution_options(synchronize_session=False)
    )
    await wake_user(session, job.user_id)
    await announce_waiting_job(session, job)
