"""Claiming: a worker that popped a task gets the right to run its attempt, by one statement.

The statement is a gate like `move_job`, for the one transition QUEUED → RUNNING: a compare-and-set
of attempt and job that writes the event in the same moment (docs/decisions/0020).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.artifacts.service import find_given, find_result
from app.artifacts.tables import Artifact
from app.config import Settings
from app.db.session import Database
from app.db.signals import Channel, Signal
from app.jobs.errors import AttemptNotFoundError
from app.jobs.fence import attempt_token, why_not_running
from app.jobs.lifecycle import (
    GRACE_SECONDS,
    AttemptStatus,
    JobStatus,
    check_attempt_transition,
    check_job_transition,
)
from contract.attempts import ClaimRequest

# Locked in the order job, attempt, as everywhere. A repeated claim never shortens the lease: after
# an outage of the API an attempt may run beyond its deadline.
_CLAIM = text("""
WITH found AS MATERIALIZED (
    SELECT job.id AS job_id, job.status AS job_status, job.model_id, job.model_version,
        job.input_params, job.prompt, job.traceparent, job.reproduces, model.pipeline,
        attempt.number, attempt.time_limit_seconds, attempt.status,
        attempt.status = 'DISPATCHED' AND job.status = 'QUEUED'
            AND job.current_attempt_id = attempt.id AS is_new,
        attempt.status = 'RUNNING' AND attempt.claim_id = :claim_id AS is_repeated
    FROM attempts attempt
    JOIN jobs job ON job.id = attempt.job_id
    JOIN models model ON model.id = job.model_id
    WHERE attempt.id = :attempt_id
    FOR UPDATE OF job, attempt
), job_started AS (
    UPDATE jobs SET status = 'RUNNING', started_at = now(), progress_percent = 0,
        stage = 'starting', message = NULL
    FROM found WHERE jobs.id = found.job_id AND is_new
), attempt_started AS (
    UPDATE attempts SET status = 'RUNNING', claim_id = :claim_id,
        worker_name = CASE WHEN is_new THEN :worker_name ELSE worker_name END,
        started_at = CASE WHEN is_new THEN now() ELSE started_at END,
        deadline_at = CASE WHEN is_new
            THEN now() + make_interval(secs => found.time_limit_seconds + :grace_seconds)
            ELSE deadline_at END,
        lease_expires_at = greatest(lease_expires_at, least(
            CASE WHEN is_repeated THEN deadline_at END,
            now() + make_interval(secs => :lease_seconds)))
    FROM found WHERE attempts.id = :attempt_id AND (is_new OR is_repeated)
    RETURNING attempts.lease_expires_at
), recorded AS (
    INSERT INTO job_events (job_id, attempt_id, type, data)
    SELECT job_id, :attempt_id, 'job.started', jsonb_build_object(
        'status', 'RUNNING', 'worker', CAST(:worker_name AS text), 'attempt', number)
    FROM found WHERE is_new
)
SELECT found.*, attempt_started.lease_expires_at FROM found LEFT JOIN attempt_started ON true
""")


@dataclass(frozen=True)
class ClaimedAttempt:
    """A running attempt with all that its worker has to know."""

    id: UUID
    row: Row[Any]
    """Of the attempt, its job and their model, as `_CLAIM` answers it."""
    inputs: Sequence[Row[Any]]
    checkpoint: Row[Any] | None
    original: tuple[Artifact | None, Artifact | None]
    """Of a job that makes another one again: that one's main artifact, and its manifest."""
    token: str


async def claim(
    database: Database, settings: Settings, attempt_id: UUID, request: ClaimRequest
) -> ClaimedAttempt:
    """Give a worker the right to run an attempt, for as long as it keeps the lease alive.

    The same claim again (same `claim_id`) answers the same token, and extends the lease.

    Raises:
        AttemptNotFoundError: there is no such attempt.
        AttemptSupersededError: another claim was first, or the job has gone on without it.
        AttemptGoneError: the job was cancelled or has expired.
    """
    async with database.statements() as connection:
        row = await take(connection, settings, attempt_id, request)
        inputs, checkpoint = await find_given(connection, row.job_id, attempt_id)
    if row.is_new:
        database.signals.send(Signal(Channel.JOB_CHANGED, str(row.job_id)))
    original: tuple[Artifact | None, Artifact | None] = (None, None)
    if row.reproduces is not None:
        async with database.transaction() as session:
            original = await find_result(session, row.reproduces)
    token = attempt_token(settings, attempt_id, request.claim_id)
    return ClaimedAttempt(attempt_id, row, inputs, checkpoint, original, token)


async def take(
    connection: AsyncConnection, settings: Settings, attempt_id: UUID, request: ClaimRequest
) -> Row[Any]:
    """Let an attempt run, or extend the lease of one that this claim let run.

    Raises:
        AttemptNotFoundError, AttemptSupersededError, AttemptGoneError: as `claim`.
    """
    check_attempt_transition(AttemptStatus.DISPATCHED, AttemptStatus.RUNNING)
    check_job_transition(JobStatus.QUEUED, JobStatus.RUNNING)
    row = (
        await connection.execute(
            _CLAIM,
            {
                "attempt_id": attempt_id,
                "claim_id": request.claim_id,
                "worker_name": request.worker_name,
                "lease_seconds": settings.lease_seconds,
                "grace_seconds": GRACE_SECONDS,
            },
        )
    ).one_or_none()
    if row is None:
        raise AttemptNotFoundError
    structlog.contextvars.bind_contextvars(job_id=str(row.job_id))
    if not (row.is_new or row.is_repeated):
        raise why_not_running(row.job_status, row.status)
    return row
