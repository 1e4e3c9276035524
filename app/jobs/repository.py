"""Queries of jobs and attempts, and the gate through which their status changes.

A start and a success have gates of their own, `app.jobs.claiming` and `app.jobs.success`.

Locks are always taken in the order job, attempt, the user's use (by a trigger, when a job begins or
ceases to be QUEUED), user queue, so that no two transactions can wait for each other.
"""

import json
from collections.abc import Collection
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple
from uuid import UUID

import structlog
from sqlalchemy import (
    Result,
    Row,
    bindparam,
    func,
    select,
    text,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts.tables import Organisation
from app.catalog.tables import Model
from app.db.base import seconds
from app.db.session import Database, signal_after_commit
from app.db.signals import Channel, Signal
from app.jobs.lifecycle import (
    FINAL_JOB_STATUSES,
    AttemptStatus,
    JobStatus,
    check_attempt_transition,
    check_job_transition,
)
from app.jobs.tables import Attempt, Job, JobEvent, UserQueue

_event = (
    select(JobEvent.id, JobEvent.type, JobEvent.attempt_id, JobEvent.data, JobEvent.created_at)
    .where(
        JobEvent.job_id == Job.id,
        JobEvent.id > bindparam("after"),
        JobEvent.type.like(bindparam("pattern")),
    )
    .order_by(JobEvent.id)
    .limit(bindparam("limit"))
    .lateral("event")
)
_LOOK = (
    select(Job.status, Job.progress_percent, Job.stage, Job.message, _event)
    .outerjoin(_event, true())
    .where(Job.id == bindparam("job_id"))
    .order_by(_event.c.id)
)

# Rows are locked in the order they are named, and read as they are once the locks are granted.
_LOCK = (
    select(Job, Attempt)
    .join(Attempt, Attempt.job_id == Job.id)
    .where(Attempt.id == bindparam("attempt_id"))
    .with_for_update(of=[Job, Attempt])
    .execution_options(populate_existing=True)
)

_INSERT_EVENT = """
INSERT INTO job_events (job_id, attempt_id, type, data)
VALUES (:job_id, :attempt_id, :type, CAST(:data AS jsonb))
"""


def due_now(user: str) -> str:
    """CTEs for a slot that has become free: whatever of this user was waiting for one is due.

    All of the user's rows are locked in one order, so that two of these cannot wait for each other.

    Args:
        user: the user's id, as an SQL expression.

    Returns:
        `mine` and `due`; the latter has each `queue` in which the user waits, once.
    """
    return f"""
mine AS (
    SELECT user_id, queue, model_id, ready_at FROM user_queue
    WHERE user_id = {user} ORDER BY queue, model_id FOR UPDATE
), made_due AS (
    UPDATE user_queue q SET ready_at = now() FROM mine
    WHERE mine.ready_at > now()
      AND (q.user_id, q.queue, q.model_id) = (mine.user_id, mine.queue, mine.model_id)
), due AS (
    SELECT DISTINCT queue FROM mine
)
"""  # noqa: S608  (an expression of ours)


_DUE_NOW = f"{due_now(':user_id')} SELECT queue FROM due"  # noqa: S608  (constants of ours)
_RECORD = text(_INSERT_EVENT)
_WAKE = text(f"WITH {_DUE_NOW}")
_RECORD_AND_WAKE = text(f"WITH recorded AS ({_INSERT_EVENT}), {_DUE_NOW}")

_HOLDING_SLOTS = frozenset({JobStatus.QUEUED, JobStatus.RUNNING})


async def record_event(
    session: AsyncSession,
    job_id: UUID,
    event_type: str,
    *,
    attempt_id: UUID | None = None,
    data: dict[str, Any] | None = None,
    wake: UUID | None = None,
) -> None:
    """Write a fact about a job and wake whoever watches the job.

    Args:
        session: the transaction.
        job_id: the job.
        event_type: what happened, in the past tense.
        attempt_id: whose doing it was.
        data: details.
        wake: a user who has a slot free now, as by `wake_user`; it saves a round trip.
    """
    event = {
        "job_id": job_id,
        "attempt_id": attempt_id,
        "type": event_type,
        "data": json.dumps(data or {}),
    }
    if wake is None:
        await session.execute(_RECORD, event)
    else:
        found = await session.execute(_RECORD_AND_WAKE, {**event, "user_id": wake})
        _wake_queues(session, found)
    signal_after_commit(session, Signal(Channel.JOB_CHANGED, str(job_id)))


async def move_job(
    session: AsyncSession,
    job_id: UUID,
    target: JobStatus,
    *,
    expected: AbstractSet[JobStatus],
    event_type: str,
    event_data: dict[str, Any] | None = None,
    attempt_id: UUID | None = None,
    **values: Any,
) -> Job | None:
    """The gate: compare-and-set of a job's status.

    The event is written in the same transaction. A job that ends or goes back to the queue gives
    its slot free and wakes its user's queue; one that ends gets its times of completion and expiry.

    Args:
        session: the transaction.
        job_id: the job.
        target: the new status.
        expected: the statuses it may come from; each must lead to `target` in the life cycle.
        event_type: what happened, in the past tense.
        event_data: details of the event.
        attempt_id: if given, the job must still be this attempt's: the fence against zombies.
        values: other columns to set along with it.

    Returns:
        The job as it is now, or None if another transaction was first.

    Raises:
        IllegalTransitionError: the life cycle has no such transition.
    """
    for source in expected:
        check_job_transition(source, target)
    changes: dict[str, Any] = {"status": target.value, **values}
    if target is JobStatus.QUEUED:
        changes |= {"slot": None, "completed_at": None, "expires_at": None}
    elif target in FINAL_JOB_STATUSES:
        changes["slot"] = None
        if target is not JobStatus.EXPIRED:
            retention_days = func.coalesce(
                select(Organisation.retention_days)
                .where(Organisation.id == Job.organisation_id)
                .scalar_subquery(),
                select(Model.retention_days).where(Model.id == Job.model_id).scalar_subquery(),
            )
            changes["completed_at"] = func.now()
            changes["expires_at"] = func.now() + retention_days * seconds(86400)
    conditions = [Job.id == job_id, Job.status.in_([status.value for status in expected])]
    if attempt_id is not None:
        conditions.append(Job.current_attempt_id == attempt_id)
    job = (
        await session.execute(
            update(Job)
            .where(*conditions)
            .values(**changes)
            .returning(Job)
            .execution_options(populate_existing=True, synchronize_session=False)
        )
    ).scalar_one_or_none()
    if job is None:
        return None
    frees_slot = target is not JobStatus.RUNNING and bool(expected & _HOLDING_SLOTS)
    await record_event(
        session,
        job_id,
        event_type,
        attempt_id=attempt_id,
        data={"status": target.value, **(event_data or {})},
        wake=job.user_id if frees_slot else None,
    )
    if target is JobStatus.QUEUED:
        await announce_waiting_job(session, job)
    return job


async def move_attempt(
    session: AsyncSession,
    attempt_id: UUID,
    target: AttemptStatus,
    *,
    expected: Collection[AttemptStatus],
    **values: Any,
) -> Attempt | None:
    """The gate of attempts: compare-and-set, None if another transaction was first."""
    for source in expected:
        check_attempt_transition(source, target)
    if target is not AttemptStatus.RUNNING:
        values["finished_at"] = func.now()
    return (
        await session.execute(
            update(Attempt)
            .where(
                Attempt.id == attempt_id,
                Attempt.status.in_([status.value for status in expected]),
            )
            .values(status=target.value, **values)
            .returning(Attempt)
            .execution_options(populate_existing=True, synchronize_session=False)
        )
    ).scalar_one_or_none()


async def announce_waiting_job(session: AsyncSession, job: Job) -> None:
    """Put a QUEUED job's user into the round robin, due when it is, and wake the dispatcher."""
    statement = pg_insert(UserQueue).values(
        user_id=job.user_id, queue=job.queue, model_id=job.model_id, ready_at=job.available_at
    )
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["user_id", "queue", "model_id"],
            set_={"ready_at": func.least(UserQueue.ready_at, statement.excluded.ready_at)},
        )
    )
    signal_after_commit(session, Signal(Channel.WORK_READY, job.queue))


async def wake_user(session: AsyncSession, user_id: UUID) -> None:
    """A slot has become free: whatever of this user was waiting for one is due now."""
    _wake_queues(session, await session.execute(_WAKE, {"user_id": user_id}))


def _wake_queues(session: AsyncSession, rows: Result[Any]) -> None:
    for queue in rows.scalars():
        signal_after_commit(session, Signal(Channel.WORK_READY, queue))


async def find_job(session: AsyncSession, job_id: UUID) -> Job | None:
    """The job as it is now."""
    return await session.get(Job, job_id, populate_existing=True)


async def lock_job(session: AsyncSession, job_id: UUID) -> Job | None:
    """The job, locked until the transaction ends."""
    return await session.get(Job, job_id, populate_existing=True, with_for_update=True)


class LockedAttempt(NamedTuple):
    """An attempt and its job, both locked."""

    job: Job
    attempt: Attempt


async def lock_job_of_attempt(session: AsyncSession, attempt_id: UUID) -> LockedAttempt | None:
    """An attempt and its job, both locked until the transaction ends."""
    found = (await session.execute(_LOCK, {"attempt_id": attempt_id})).one_or_none()
    if found is None:
        return None
    locked = LockedAttempt(*found)
    structlog.contextvars.bind_contextvars(job_id=str(locked.job.id), attempt_id=str(attempt_id))
    return locked


async def find_by_idempotency_key(session: AsyncSession, user_id: UUID, key: str) -> Job | None:
    """The job that was created with this idempotency key."""
    return (
        await session.execute(select(Job).where(Job.user_id == user_id, Job.idempotency_key == key))
    ).scalar_one_or_none()


async def find_lost_attempts(session: AsyncSession, limit: int) -> list[UUID]:
    """Running attempts whose lease is over, longest first."""
    return list(
        (
            await session.execute(
                select(Attempt.id)
                .where(
                    Attempt.status == AttemptStatus.RUNNING.value,
                    Attempt.lease_expires_at < func.now(),
                )
                .order_by(Attempt.lease_expires_at)
                .limit(limit)
            )
        ).scalars()
    )


async def find_expired_jobs(session: AsyncSession, limit: int) -> list[UUID]:
    """Jobs that have ended and whose retention is over, locked; those locked elsewhere left out."""
    return list(
        (
            await session.execute(
                select(Job.id)
                .where(
                    Job.expires_at < func.now(),
                    # As the partial index has it.
                    Job.status.in_(
                        [
                            JobStatus.SUCCEEDED.value,
                            JobStatus.FAILED.value,
                            JobStatus.CANCELLED.value,
                        ]
                    ),
                )
                .order_by(Job.expires_at)
                .limit(limit)
                .with_for_update(skip_locked=True)
            )
        ).scalars()
    )


def _like(type_pattern: str | None) -> str:
    """The LIKE pattern of a type of events or, with a star at its end, of its beginning."""
    if type_pattern is None:
        return "%"
    escaped = type_pattern.replace("\\", "\\\\").replace("_", "\\_").replace("%", "\\%")
    return f"{escaped[:-1]}%" if escaped.endswith("*") else escaped


async def look_at_job(
    database: Database, job_id: UUID, *, after: int, type_pattern: str | None, limit: int
) -> tuple[Row[Any] | None, list[Row[Any]]]:
    """A job's status and progress, and its events as `find_events`, both of one moment."""
    rows = await database.read(
        _LOOK,
        {"job_id": job_id, "after": after, "pattern": _like(type_pattern), "limit": limit},
    )
    return (rows[0] if rows else None), [row for row in rows if row.id is not None]


async def find_events(
    session: AsyncSession,
    job_id: UUID,
    *,
    after: int = 0,
    type_pattern: str | None = None,
    limit: int,
) -> list[JobEvent]:
    """Events of a job in order, after a known one; of one type or, with a star, its beginning."""
    return list(
        (
            await session.execute(
                select(JobEvent)
                .where(
                    JobEvent.job_id == job_id,
                    JobEvent.id > after,
                    JobEvent.type.like(_like(type_pattern)),
                )
                .order_by(JobEvent.id)
                .limit(limit)
            )
        ).scalars()
    )
