"""Dead letters: jobs that FAILED with their attempts spent, which somebody may run again."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts.tables import Organisation, User
from app.audit.actor import Actor
from app.audit.service import Action, record
from app.jobs.errors import JobNotFoundError
from app.jobs.lifecycle import JobStatus
from app.jobs.repository import lock_job
from app.jobs.service import requeue_job
from app.jobs.tables import Job


@dataclass(frozen=True)
class DeadLetterFilters:
    """Which dead letters; None is any.

    Args:
        organisation: by name.
        model_id: the model.
        error_code: why the last attempt failed.
        permanent: also those that were not tried again because it would not help.
    """

    organisation: str | None = None
    model_id: str | None = None
    error_code: str | None = None
    permanent: bool = False


@dataclass(frozen=True)
class DeadLetter:
    """A job that failed for good, and the names of whose it is."""

    job: Job
    username: str
    organisation: str


async def find_dead_letters(
    session: AsyncSession, filters: DeadLetterFilters, *, after: UUID | None = None, limit: int
) -> list[DeadLetter]:
    """Dead letters, oldest first."""
    conditions: list[ColumnElement[bool]] = [Job.status == JobStatus.FAILED.value]
    if not filters.permanent:
        conditions.append(Job.error_permanent.is_not(True))
    for column, value in (
        (Organisation.name, filters.organisation),
        (Job.model_id, filters.model_id),
        (Job.error_code, filters.error_code),
    ):
        if value is not None:
            conditions.append(column == value)
    if after is not None:
        conditions.append(Job.id > after)
    rows = await session.execute(
        select(Job, User.username, Organisation.name)
        .join(User, User.id == Job.user_id)
        .join(Organisation, Organisation.id == Job.organisation_id)
        .where(*conditions)
        .order_by(Job.id)
        .limit(limit)
    )
    return [DeadLetter(row[0], row[1], row[2]) for row in rows]


async def redrive(session: AsyncSession, job_id: UUID, actor: Actor) -> Job:
    """Queue a dead letter again with a new budget of attempts, and say so in the audit trail.

    Raises:
        JobNotFoundError: there is no such job.
        JobStateError, ModelNotFoundError: as `requeue_job` does.
    """
    job = await lock_job(session, job_id)
    if job is None:
        raise JobNotFoundError
    code = job.error_code
    requeued = await requeue_job(session, job, by=actor.name)
    record(
        session,
        actor,
        Action.JOB_REDRIVEN,
        organisation_id=job.organisation_id,
        target_id=job.id,
        data={"error_code": code},
    )
    return requeued
