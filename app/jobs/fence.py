"""The fence: who speaks for an attempt proves, by the token of its claim, that it runs it."""

import hashlib
import hmac
from dataclasses import dataclass
from uuid import UUID

import structlog
from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.config import Settings
from app.errors import AppError
from app.jobs.errors import (
    AttemptGoneError,
    AttemptNotFoundError,
    AttemptSupersededError,
    AttemptTokenError,
)
from app.jobs.lifecycle import FINAL_JOB_STATUSES, AttemptStatus, JobStatus
from app.jobs.tables import Attempt, Job

_LOOK = (
    select(
        Attempt.id,
        Attempt.job_id,
        Attempt.status,
        Attempt.claim_id,
        Job.user_id,
        Job.status.label("job_status"),
        (Job.current_attempt_id == Attempt.id).label("is_current"),
    )
    .join(Job, Job.id == Attempt.job_id)
    .where(Attempt.id == bindparam("attempt_id"))
)


@dataclass(frozen=True)
class RunningAttempt:
    """An attempt that runs, and whose it is."""

    id: UUID
    job_id: UUID
    user_id: UUID
    claim_id: UUID


def attempt_token(settings: Settings, attempt_id: UUID, claim_id: UUID) -> str:
    """The token of a claim: computed, so that a repeated claim answers the same one."""
    secret = settings.secret_key.get_secret_value().encode()
    name = f"attempt-token:{attempt_id}:{claim_id}".encode()
    return hmac.new(secret, name, hashlib.sha256).hexdigest()


def check_token(settings: Settings, attempt_id: UUID, claim_id: UUID | None, token: str) -> None:
    """Check that a token is that of the attempt's claim.

    Raises:
        AttemptTokenError: it is not.
    """
    if claim_id is None:
        raise AttemptTokenError("This attempt has not been claimed.")
    expected = attempt_token(settings, attempt_id, claim_id)
    if not hmac.compare_digest(expected.encode(), token.encode()):
        raise AttemptTokenError


def is_running(job_status: str, attempt_status: str, *, is_current: bool) -> bool:
    """Whether an attempt, which is the job's current one or not, is the one that runs it."""
    return (
        attempt_status == AttemptStatus.RUNNING and job_status == JobStatus.RUNNING and is_current
    )


def why_not_running(job_status: str, attempt_status: str) -> AppError:
    """What a worker is told of an attempt that is not, or not any more, its to run."""
    if attempt_status == AttemptStatus.CANCELLED or job_status in {
        JobStatus.CANCELLED,
        JobStatus.EXPIRED,
    }:
        return AttemptGoneError()
    if job_status in FINAL_JOB_STATUSES:
        return AttemptSupersededError(f"The job has ended: {job_status}.")
    return AttemptSupersededError()


async def find_running(
    connection: AsyncConnection, settings: Settings, attempt_id: UUID, token: str
) -> RunningAttempt | AppError:
    """The attempt, if it runs just now; else why not. Nothing is locked, so it may end meanwhile.

    Raises:
        AttemptNotFoundError, AttemptTokenError: no such attempt, or not its worker.
    """
    found = (await connection.execute(_LOOK, {"attempt_id": attempt_id})).one_or_none()
    if found is None:
        raise AttemptNotFoundError
    structlog.contextvars.bind_contextvars(job_id=str(found.job_id))
    check_token(settings, found.id, found.claim_id, token)
    if is_running(found.job_status, found.status, is_current=found.is_current):
        return RunningAttempt(found.id, found.job_id, found.user_id, found.claim_id)
    return why_not_running(found.job_status, found.status)


async def require_running(
    connection: AsyncConnection, settings: Settings, attempt_id: UUID, token: str
) -> RunningAttempt:
    """As `find_running`.

    Raises:
        AttemptNotFoundError, AttemptTokenError: no such attempt, or not its worker.
        AttemptSupersededError, AttemptGoneError: it is not running any more.
    """
    found = await find_running(connection, settings, attempt_id, token)
    if isinstance(found, AppError):
        raise found
    return found
