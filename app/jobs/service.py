"""What a user may do with jobs: read, cancel, retry."""

from collections.abc import Sequence
from typing import TypeVar
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts.errors import ForbiddenError
from app.accounts.principal import Principal
from app.accounts.roles import Permission
from app.artifacts.keeping import drop_checkpoints
from app.artifacts.service import visible_artifacts
from app.artifacts.tables import Artifact
from app.catalog.service import get_model
from app.catalog.tables import Model
from app.db.base import first_id_at
from app.jobs.errors import JobNotFoundError, JobStateError
from app.jobs.lifecycle import FINAL_JOB_STATUSES, AttemptStatus, JobStatus
from app.jobs.repository import (
    find_job,
    lock_job,
    move_attempt,
    move_job,
    record_event,
)
from app.jobs.rows import JobRow
from app.jobs.schemas import JobFilters
from app.jobs.tables import Attempt, Job

AnyJob = TypeVar("AnyJob", Job, JobRow)

_CLOCK_SECONDS = 86400.0
"""Ids have the time of the API's clock, rows that of the database; no clock is so far off."""


def _require(
    principal: Principal, job: AnyJob | None, *, own: Permission, any_: Permission
) -> AnyJob:
    """The job, if the principal may do this to it.

    Raises:
        JobNotFoundError: there is none, or it is another organisation's.
        ForbiddenError: it is a colleague's, and the role does not reach it.
    """
    if job is None or job.organisation_id != principal.organisation_id:
        raise JobNotFoundError
    if job.user_id == principal.user_id:
        principal.require(own)
    elif not principal.may(any_):
        principal.require_scope(any_)
        raise ForbiddenError("This job is a colleague's, and your role does not reach it.")
    return job


def require_readable(principal: Principal, job: AnyJob | None) -> AnyJob:
    """The job, if the principal may read it; see `_require`."""
    return _require(principal, job, own=Permission.READ_OWN_JOBS, any_=Permission.READ_ALL_JOBS)


async def lock_controllable(session: AsyncSession, principal: Principal, job_id: UUID) -> Job:
    """A job that the principal may cancel, retry and delete, locked until the transaction ends.

    Raises:
        JobNotFoundError, ForbiddenError
    """
    return _require(
        principal,
        await lock_job(session, job_id),
        own=Permission.CONTROL_OWN_JOBS,
        any_=Permission.CONTROL_ALL_JOBS,
    )


async def get_job(session: AsyncSession, principal: Principal, job_id: UUID) -> Job:
    """A job that the principal may read.

    Raises:
        JobNotFoundError, ForbiddenError
    """
    return require_readable(principal, await find_job(session, job_id))


async def list_jobs(
    session: AsyncSession,
    principal: Principal,
    filters: JobFilters,
    *,
    before: UUID | None,
    limit: int,
    model_ids: Sequence[str] | None = None,
) -> Sequence[Job]:
    """Jobs that the principal may read, newest first; ids sort by time.

    Args:
        session: the transaction.
        principal: who asks: sees the organisation's jobs or only the own ones, by role.
        filters: which of them.
        before: the last id of the page before.
        limit: how many.
        model_ids: if given, only jobs of these models.

    Raises:
        ForbiddenError: a key was shown whose scopes don't include reading.
    """
    principal.require(Permission.READ_OWN_JOBS)
    conditions = [Job.organisation_id == principal.organisation_id]
    if not principal.may(Permission.READ_ALL_JOBS):
        conditions.append(Job.user_id == principal.user_id)
    if filters.status:
        conditions.append(Job.status.in_([status.value for status in filters.status]))
    if model_ids is not None:
        conditions.append(Job.model_id.in_(model_ids))
    if filters.model_id is not None:
        conditions.append(Job.model_id == filters.model_id)
    if filters.requested_by is not None:
        conditions.append(Job.user_id == filters.requested_by)
    if filters.created_after is not None:
        conditions.append(Job.created_at > filters.created_after)
        conditions.append(Job.id > first_id_at(filters.created_after, -_CLOCK_SECONDS))
    if filters.created_before is not None:
        conditions.append(Job.created_at < filters.created_before)
        conditions.append(Job.id < first_id_at(filters.created_before, _CLOCK_SECONDS))
    if before is not None:
        conditions.append(Job.id < before)
    return (
        (await session.execute(select(Job).where(*conditions).order_by(Job.id.desc()).limit(limit)))
        .scalars()
        .all()
    )


async def cancel_job(session: AsyncSession, principal: Principal, job_id: UUID) -> Job:
    """Cancel a job: at once while QUEUED; while RUNNING its worker is told to stop.

    Raises:
        JobNotFoundError, ForbiddenError
        JobStateError: it has ended already.
    """
    job = await lock_controllable(session, principal, job_id)
    if job.status in FINAL_JOB_STATUSES:
        raise JobStateError(f"The job has ended ({job.status}) and cannot be cancelled.")
    if job.status == JobStatus.RUNNING:
        if job.cancel_requested_at is None:
            await session.execute(
                update(Job).where(Job.id == job.id).values(cancel_requested_at=func.now())
            )
            await record_event(
                session, job.id, "job.cancel_requested", attempt_id=job.current_attempt_id
            )
            await session.refresh(job)
        return job
    if job.current_attempt_id is not None and job.slot is not None:
        await move_attempt(
            session,
            job.current_attempt_id,
            AttemptStatus.CANCELLED,
            expected={AttemptStatus.DISPATCHED},
        )
    cancelled = await move_job(
        session,
        job.id,
        JobStatus.CANCELLED,
        expected={JobStatus.QUEUED},
        event_type="job.cancelled",
        cancel_requested_at=func.now(),
        stage=None,
        message=None,
    )
    assert cancelled is not None, "the row is locked"
    return cancelled


async def retry_job(session: AsyncSession, principal: Principal, job_id: UUID) -> Job:
    """Queue a FAILED or CANCELLED job again, with a new budget of attempts.

    Raises:
        JobNotFoundError, ForbiddenError
        JobStateError, ModelNotFoundError: as `requeue_job` does.
    """
    job = await lock_controllable(session, principal, job_id)
    return await requeue_job(session, job, by=principal.username)


async def requeue_job(session: AsyncSession, job: Job, *, by: str) -> Job:
    """Queue a job again that has been locked, for whoever has been found entitled to.

    Raises:
        JobStateError: it is in another state than FAILED or CANCELLED.
        ModelNotFoundError: its model is not in the catalog any more.
    """
    if job.status not in {JobStatus.FAILED, JobStatus.CANCELLED}:
        raise JobStateError(
            f"Only a FAILED or CANCELLED job can be retried; this one is {job.status}."
        )
    model = await get_model(session, job.model_id)
    if model.version != job.model_version:
        await drop_checkpoints(session, job.id)
    retried = await move_job(
        session,
        job.id,
        JobStatus.QUEUED,
        expected={JobStatus.FAILED, JobStatus.CANCELLED},
        event_type="job.retried",
        event_data={"by": by},
        queue=model.queue,
        model_version=model.version,
        failures=0,
        releases=0,
        max_attempts=model.max_attempts,
        available_at=func.now(),
        cancel_requested_at=None,
        started_at=None,
        progress_percent=0,
        stage=None,
        message=None,
        error_code=None,
        error_message=None,
        error_permanent=None,
    )
    assert retried is not None, "the row is locked"
    return retried


async def readable_artifacts(
    session: AsyncSession, principal: Principal, job_id: UUID
) -> tuple[Job, Sequence[Artifact]]:
    """A job that the principal may read, with its visible artifacts."""
    job = await get_job(session, principal, job_id)
    return job, await visible_artifacts(session, job)


async def running_attempt(session: AsyncSession, job: Job) -> Attempt | None:
    """The attempt that runs a job just now; None if nobody does."""
    if job.status != JobStatus.RUNNING or job.current_attempt_id is None:
        return None
    return await session.get_one(Attempt, job.current_attempt_id)


async def model_of(session: AsyncSession, job: Job) -> Model:
    """The job's model, even if the catalog does not offer it any more."""
    return await session.get_one(Model, job.model_id)
