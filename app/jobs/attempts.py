"""Attempts: the worker reports facts, here it is decided what they mean for the job."""

from collections.abc import Sequence
from typing import assert_never
from uuid import UUID

from sqlalchemy import func
from sqlalchemy.ext.asyncio import AsyncSession

from app.artifacts.commits import CheckedObject, commit_objects
from app.config import Settings
from app.db.base import seconds
from app.db.session import signal_after_commit
from app.db.signals import Channel, Signal
from app.jobs.detected import record_detected
from app.jobs.errors import (
    AttemptNotFoundError,
    AttemptSupersededError,
    ReportConflictError,
)
from app.jobs.fence import check_token, is_running, why_not_running
from app.jobs.lifecycle import (
    AttemptStatus,
    JobStatus,
)
from app.jobs.outcomes import (
    cancel_running,
    clean,
    end_attempt,
    fail_or_retry,
    hash_of,
    requeue_released,
)
from app.jobs.repository import (
    LockedAttempt,
    lock_job_of_attempt,
)
from app.jobs.tables import Attempt, Job
from contract.attempts import (
    AttemptCancelled,
    AttemptFailed,
    AttemptHeartbeat,
    AttemptHeartbeatReply,
    AttemptReleased,
    AttemptSucceeded,
    FinishReply,
    FinishRequest,
)

_LOG_TAIL_LIMIT = 20_000


class AttemptService:
    """What the worker of a claimed attempt may do, each within the caller's transaction."""

    def __init__(self, session: AsyncSession, settings: Settings) -> None:
        self._session = session
        self._settings = settings

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
        """End an attempt that did not succeed, and decide what becomes of its job.

        `objects` are files that came with the report; they become artifacts in the same moment.
        A success is for `app.jobs.success`, unless the attempt does not run any more. An identical
        repeat changes nothing: it answers the job's status now, marked `replayed`.

        Raises:
            AttemptNotFoundError, AttemptTokenError: no such attempt, or not its worker.
            AttemptSupersededError: it was taken from this worker.
            ReportConflictError: it had ended with another report.
            TicketNotFoundError: a file that came with the report is not there.
        """
        locked = await self._lock(attempt_id)
        job, attempt = locked.job, locked.attempt
        check_token(self._settings, attempt.id, attempt.claim_id, token)
        report_hash = hash_of(report)
        if attempt.status != AttemptStatus.RUNNING:
            if attempt.report_hash == report_hash:
                return FinishReply(job_status=job.status, replayed=True)
            if attempt.report_hash is not None:
                raise ReportConflictError
            raise why_not_running(job.status, attempt.status)
        is_current = job.current_attempt_id == attempt.id and job.status == JobStatus.RUNNING
        if not is_current or isinstance(report, AttemptSucceeded):
            raise AttemptSupersededError
        await commit_objects(self._session, job.id, attempt.id, objects)
        match report:
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
