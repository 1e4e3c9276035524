"""Attempts: the worker reports facts, here it is decided what they mean for the job."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never
from uuid import UUID

from sqlalchemy import func
from sqlalchemy.ext.asyncio import AsyncSession

from app.artifacts.commits import CheckedObject, commit_objects
from app.artifacts.service import find_given, find_result
from app.artifacts.tables import Artifact
from app.config import Settings
from app.db.session import signal_after_commit
from app.db.signals import Channel, Signal
from app.jobs.detected import record_detected
from app.jobs.errors import (
    AttemptNotFoundError,
    AttemptSupersededError,
    ReportConflictError,
)
from app.jobs.fence import attempt_token, check_token, is_running, why_not_running
from app.jobs.lifecycle import (
    GRACE_SECONDS,
    AttemptStatus,
    JobStatus,
)
from app.jobs.outcomes import (
    cancel_running,
    clean,
    end_attempt,
    fail_or_retry,
    requeue_released,
    succeed,
)
from app.jobs.repository import (
    LockedAttempt,
    lock_job_of_attempt,
    move_attempt,
    move_job,
    seconds,
)
from app.jobs.tables import Attempt, Job
from contract.attempts import (
    AttemptCancelled,
    AttemptFailed,
    AttemptHeartbeat,
    AttemptHeartbeatReply,
    AttemptReleased,
    AttemptSucceeded,
    ClaimRequest,
    FinishReply,
    FinishRequest,
)

_LOG_TAIL_LIMIT = 20_000


@dataclass(frozen=True)
class ClaimedAttempt:
    """A running attempt with all that its worker has to know."""

    job: Job
    attempt: Attempt
    pipeline: str
    inputs: list[Artifact]
    checkpoint: Artifact | None
    original: tuple[Artifact | None, Artifact | None]
    """Of a job that makes another one again: that one's main artifact, and its manifest."""
    token: str


class AttemptService:
    """What a worker may do with one attempt, each within the caller's transaction."""

    def __init__(self, session: AsyncSession, settings: Settings) -> None:
        self._session = session
        self._settings = settings

    async def claim(self, attempt_id: UUID, request: ClaimRequest) -> ClaimedAttempt:
        """Give a worker the right to run an attempt, for as long as it keeps the lease alive.

        The same claim again (same `claim_id`) answers the same token, and extends the lease.

        Raises:
            AttemptNotFoundError: there is no such attempt.
            AttemptSupersededError: another claim was first, or the job has gone on without it.
            AttemptGoneError: the job was cancelled or has expired.
        """
        locked = await self._lock(attempt_id)
        job, attempt = locked.job, locked.attempt
        repeated = attempt.status == AttemptStatus.RUNNING and attempt.claim_id == request.claim_id
        if repeated:
            await self._extend_lease(attempt)
        else:
            attempt, job = await self._start(job, attempt, request)
        inputs, checkpoint = await find_given(self._session, attempt)
        original: tuple[Artifact | None, Artifact | None] = (None, None)
        if job.reproduces is not None:
            original = await find_result(self._session, job.reproduces)
        token = attempt_token(self._settings, attempt_id, request.claim_id)
        return ClaimedAttempt(job, attempt, locked.pipeline, inputs, checkpoint, original, token)

    async def heartbeat(
        self, attempt_id: UUID, token: str, heartbeat: AttemptHeartbeat
    ) -> AttemptHeartbeatReply:
        """Extend the lease, up to the attempt's deadline, and record progress and events.

        Events that an earlier heartbeat has brought are known by their sequence.

        Raises:
            AttemptNotFoundError, AttemptTokenError: no such attempt, or not its worker.
            AttemptSupersededError, AttemptGoneError: it is not running any more.
        """
        job, attempt = await self.lock_running(attempt_id, token)
        if heartbeat.progress:
            job.progress_percent = max(job.progress_percent, heartbeat.progress.percent)
            job.stage = clean(heartbeat.progress.stage)
            job.message = clean(heartbeat.progress.message)
            signal_after_commit(self._session, Signal(Channel.JOB_CHANGED, str(job.id)))
        await record_detected(self._session, job.id, attempt, heartbeat.events)
        await self._extend_lease(attempt)
        assert attempt.lease_expires_at is not None
        return AttemptHeartbeatReply(
            cancel_requested=job.cancel_requested_at is not None,
            lease_expires_at=attempt.lease_expires_at,
        )

    async def finish(
        self,
        attempt_id: UUID,
        token: str,
        report: FinishRequest,
        objects: Sequence[CheckedObject] = (),
    ) -> FinishReply:
        """End an attempt and decide what becomes of its job.

        `objects` are files that came with the report; they become artifacts in the same moment.
        An identical repeat changes nothing: it answers the job's status now, marked `replayed`.

        Raises:
            AttemptNotFoundError, AttemptTokenError: no such attempt, or not its worker.
            AttemptSupersededError: it was taken from this worker.
            ReportConflictError: it had ended with another report.
            TicketNotFoundError, ResultIncompleteError: what is said to be the result is not there.
        """
        locked = await self._lock(attempt_id)
        job, attempt = locked.job, locked.attempt
        check_token(self._settings, attempt.id, attempt.claim_id, token)
        # A repeat after a restart of the worker has more lines in its log.
        body = report.model_dump_json(exclude={"log"})
        report_hash = hashlib.sha256(body.encode()).hexdigest()
        if attempt.status != AttemptStatus.RUNNING:
            if attempt.report_hash == report_hash:
                return FinishReply(job_status=job.status, replayed=True)
            if attempt.report_hash is not None:
                raise ReportConflictError
            raise why_not_running(job.status, attempt.status)
        if job.current_attempt_id != attempt.id or job.status != JobStatus.RUNNING:
            raise AttemptSupersededError
        await commit_objects(self._session, job.id, attempt.id, objects)
        match report:
            case AttemptSucceeded():
                ended = await succeed(self._session, locked, report, report_hash)
            case AttemptFailed():
                await end_attempt(
                    self._session,
                    attempt,
                    AttemptStatus.FAILED,
                    report_hash=report_hash,
                    error_code=report.code,
                    error_message=clean(report.message),
                    log_tail=clean(report.log_tail, limit=_LOG_TAIL_LIMIT),
                )
                ended = await fail_or_retry(
                    self._session,
                    self._settings,
                    job,
                    attempt,
                    report.code,
                    report.message,
                    permanent=report.permanent,
                )
            case AttemptCancelled():
                if job.cancel_requested_at is None:
                    raise ReportConflictError(
                        "Nobody asked to cancel this job. Report `released` to hand it back."
                    )
                await end_attempt(
                    self._session, attempt, AttemptStatus.CANCELLED, report_hash=report_hash
                )
                ended = await cancel_running(self._session, job, attempt)
            case AttemptReleased():
                await end_attempt(
                    self._session, attempt, AttemptStatus.RELEASED, report_hash=report_hash
                )
                ended = await requeue_released(
                    self._session, self._settings, job, attempt, report.reason
                )
            case _:
                assert_never(report)
        return FinishReply(job_status=ended.status)

    async def _extend_lease(self, attempt: Attempt) -> None:
        # Never less than it has: after an outage of the API it may run beyond the deadline.
        attempt.lease_expires_at = func.greatest(
            Attempt.lease_expires_at,
            func.least(Attempt.deadline_at, func.now() + seconds(self._settings.lease_seconds)),
        )
        await self._session.flush()
        await self._session.refresh(attempt, ["lease_expires_at"])

    async def _lock(self, attempt_id: UUID) -> LockedAttempt:
        found = await lock_job_of_attempt(self._session, attempt_id)
        if found is None:
            raise AttemptNotFoundError
        return found

    async def lock_running(self, attempt_id: UUID, token: str) -> tuple[Job, Attempt]:
        """The attempt and its locked job, for a worker that proves it runs it.

        Raises:
            AttemptNotFoundError, AttemptTokenError: no such attempt, or not its worker.
            AttemptSupersededError, AttemptGoneError: it is not running any more.
        """
        locked = await self._lock(attempt_id)
        job, attempt = locked.job, locked.attempt
        check_token(self._settings, attempt.id, attempt.claim_id, token)
        is_current = job.current_attempt_id == attempt.id
        if not is_running(job.status, attempt.status, is_current=is_current):
            raise why_not_running(job.status, attempt.status)
        return job, attempt

    async def _start(
        self, job: Job, attempt: Attempt, request: ClaimRequest
    ) -> tuple[Attempt, Job]:
        if attempt.status != AttemptStatus.DISPATCHED or job.current_attempt_id != attempt.id:
            raise why_not_running(job.status, attempt.status)
        running = await move_attempt(
            self._session,
            attempt.id,
            AttemptStatus.RUNNING,
            expected={AttemptStatus.DISPATCHED},
            worker_name=request.worker_name,
            claim_id=request.claim_id,
            started_at=func.now(),
            lease_expires_at=func.now() + seconds(self._settings.lease_seconds),
            deadline_at=func.now() + seconds(attempt.time_limit_seconds + GRACE_SECONDS),
        )
        started = await move_job(
            self._session,
            job.id,
            JobStatus.RUNNING,
            expected={JobStatus.QUEUED},
            attempt_id=attempt.id,
            event_type="job.started",
            event_data={"worker": request.worker_name, "attempt": attempt.number},
            started_at=func.now(),
            progress_percent=0,
            stage="starting",
            message=None,
        )
        if running is None or started is None:
            raise why_not_running(job.status, attempt.status)
        return running, started
