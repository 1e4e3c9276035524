"""What becomes of a job when an attempt of it ends: the app decides, whoever reported it."""

import hashlib
from typing import Any

from sqlalchemy import func
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.db.base import seconds
from app.jobs.errors import AttemptSupersededError
from app.jobs.lifecycle import AttemptStatus, JobStatus, retry_delay_seconds, should_retry
from app.jobs.repository import move_attempt, move_job
from app.jobs.tables import Attempt, Job
from contract.attempts import FailureCode, FinishRequest

_MESSAGE_LIMIT = 500
_RELEASE_SECONDS = 5.0
_RELEASE_MAX_SECONDS = 300.0
_MAX_RELEASES = 10
"""So many in a row count as one failure, so that a job that nobody can run ends, too."""


async def end_attempt(
    session: AsyncSession, attempt: Attempt, target: AttemptStatus, **values: Any
) -> None:
    """End a running attempt.

    Raises:
        AttemptSupersededError: somebody else was first.
    """
    ended = await move_attempt(
        session, attempt.id, target, expected={AttemptStatus.RUNNING}, **values
    )
    if ended is None:
        raise AttemptSupersededError


async def fail_or_retry(  # noqa: PLR0917
    session: AsyncSession,
    settings: Settings,
    job: Job,
    attempt: Attempt,
    code: str,
    message: str,
    *,
    permanent: bool,
) -> Job:
    """One more failure: cancelled if that was asked for, tried again if it is worth it."""
    if job.cancel_requested_at is not None:
        return await cancel_running(session, job, attempt)
    failures = job.failures + 1
    message = clean(message) or code
    if not should_retry(failures=failures, max_attempts=job.max_attempts, permanent=permanent):
        return await _move(
            session,
            job,
            attempt,
            JobStatus.FAILED,
            event_type="job.failed",
            event_data={"code": code, "message": message, "permanent": permanent},
            failures=failures,
            error_code=code,
            error_message=message,
            error_permanent=permanent,
            message=None,
        )
    delay = retry_delay_seconds(failures, settings.retry_base_seconds, settings.retry_max_seconds)
    note = f"Attempt {failures} of {job.max_attempts} failed ({code}); trying again."
    return await _move(
        session,
        job,
        attempt,
        JobStatus.QUEUED,
        event_type="job.retry_scheduled",
        event_data={"code": code, "message": message, "delay_seconds": delay},
        failures=failures,
        releases=0,
        available_at=func.now() + seconds(delay),
        progress_percent=0,
        stage="waiting to retry",
        message=note,
    )


async def requeue_released(
    session: AsyncSession, settings: Settings, job: Job, attempt: Attempt, reason: str
) -> Job:
    """The job waits again, longer with each release; too many in a row count as a failure."""
    if job.cancel_requested_at is not None:
        return await cancel_running(session, job, attempt)
    releases = job.releases + 1
    if releases >= _MAX_RELEASES:
        message = f"{releases} times in a row it was handed back, the last time because: {reason}"
        return await fail_or_retry(
            session, settings, job, attempt, FailureCode.NO_CAPABLE_WORKER, message, permanent=False
        )
    delay = retry_delay_seconds(releases, _RELEASE_SECONDS, _RELEASE_MAX_SECONDS)
    return await _move(
        session,
        job,
        attempt,
        JobStatus.QUEUED,
        event_type="attempt.released",
        event_data={"worker": attempt.worker_name, "reason": clean(reason)},
        available_at=func.now() + seconds(delay),
        releases=releases,
        progress_percent=0,
        stage=None,
        message=None,
    )


async def cancel_running(session: AsyncSession, job: Job, attempt: Attempt) -> Job:
    """The job ends as its user asked."""
    return await _move(
        session, job, attempt, JobStatus.CANCELLED, event_type="job.cancelled", message=None
    )


async def _move(
    session: AsyncSession, job: Job, attempt: Attempt, target: JobStatus, **values: Any
) -> Job:
    """Move a RUNNING job that is still this attempt's; `values` as `move_job` takes them.

    Raises:
        AttemptSupersededError: it is not; the caller has locked and checked the row, so a bug.
    """
    moved = await move_job(
        session, job.id, target, expected={JobStatus.RUNNING}, attempt_id=attempt.id, **values
    )
    if moved is None:
        raise AttemptSupersededError
    return moved


def hash_of(report: FinishRequest) -> str:
    """What a repeat of a report is known by: a later one may have more lines in its log."""
    return hashlib.sha256(report.model_dump_json(exclude={"log"}).encode()).hexdigest()


def clean(value: str | None, limit: int = _MESSAGE_LIMIT) -> str | None:
    """Text of a worker without what Postgres cannot store, at a readable length."""
    return value.replace("\x00", "\N{REPLACEMENT CHARACTER}")[:limit] if value else None
