"""Attempts: the worker reports facts, here it is decided what they mean for the job."""

import hashlib
import hmac
from dataclasses import dataclass
from typing import assert_never
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.artifacts.tables import Artifact
from app.catalog.tables import Model
from app.config import Settings
from app.db.session import signal_after_commit
from app.db.signals import Channel, Signal
from app.jobs.errors import (
    AttemptGoneError,
    AttemptNotFoundError,
    AttemptSupersededError,
    AttemptTokenError,
    ReportConflictError,
    ResultIncompleteError,
)
from app.jobs.lifecycle import (
    FINAL_JOB_STATUSES,
    AttemptStatus,
    JobStatus,
    retry_delay_seconds,
    should_retry,
)
from app.jobs.repository import (
    announce_waiting_job,
    lock_job_of_attempt,
    move_attempt,
    move_job,
    record_event,
    seconds,
    wake_user,
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
    FailureCode,
    FinishReply,
    FinishRequest,
)

GRACE_SECONDS = 60
"""What a worker gets beyond the model's time limit to stop and report."""

_RELEASE_DELAY_SECONDS = 5
"""How long a released job waits, so that a worker that cannot run it does not get it in a loop."""

_MESSAGE_LIMIT = 500


@dataclass(frozen=True)
class ClaimedAttempt:
    """A running attempt with all that its worker has to know."""

    job: Job
    attempt: Attempt
    model: Model
    inputs: list[Artifact]
    token: str


class AttemptService:
    """What a worker may do with one attempt, each within the caller's transaction."""

    def __init__(self, session: AsyncSession, settings: Settings) -> None:
        self._session = session
        self._settings = settings

    def token(self, attempt_id: UUID, claim_id: UUID) -> str:
        """The token of a claim: computed, so that a repeated claim answers the same one."""
        secret = self._settings.secret_key.get_secret_value().encode()
        name = f"attempt-token:{attempt_id}:{claim_id}".encode()
        return hmac.new(secret, name, hashlib.sha256).hexdigest()

    async def claim(self, attempt_id: UUID, request: ClaimRequest) -> ClaimedAttempt:
        """Give a worker the right to run an attempt, for as long as it keeps the lease alive.

        The same claim again (same `claim_id`) answers the same.

        Raises:
            AttemptNotFoundError: there is no such attempt.
            AttemptSupersededError: another claim was first, or the job has gone on without it.
            AttemptGoneError: the job was cancelled or has expired.
        """
        job, attempt = await self._lock(attempt_id)
        repeated = attempt.status == AttemptStatus.RUNNING and attempt.claim_id == request.claim_id
        if not repeated:
            attempt, job = await self._start(job, attempt, request)
        model = await self._session.get_one(Model, job.model_id)
        inputs = (
            await self._session.execute(
                select(Artifact)
                .where(Artifact.job_id == job.id, Artifact.attempt_id.is_(None))
                .order_by(Artifact.parameter)
            )
        ).scalars()
        return ClaimedAttempt(
            job, attempt, model, list(inputs), self.token(attempt_id, request.claim_id)
        )

    async def heartbeat(
        self, attempt_id: UUID, token: str, heartbeat: AttemptHeartbeat
    ) -> AttemptHeartbeatReply:
        """Extend the lease, up to the attempt's deadline, and record progress.

        Raises:
            AttemptNotFoundError, AttemptTokenError: no such attempt, or not its worker.
            AttemptSupersededError, AttemptGoneError: it is not running any more.
        """
        job, attempt = await self.lock_running(attempt_id, token)
        if heartbeat.progress:
            job.progress_percent = max(job.progress_percent, heartbeat.progress.percent)
            job.stage = _clean(heartbeat.progress.stage)
            job.message = _clean(heartbeat.progress.message)
            signal_after_commit(self._session, Signal(Channel.JOB_CHANGED, str(job.id)))
        attempt.lease_expires_at = func.least(
            Attempt.deadline_at, func.now() + seconds(self._settings.lease_seconds)
        )
        await self._session.flush()
        await self._session.refresh(attempt, ["lease_expires_at"])
        assert attempt.lease_expires_at is not None
        return AttemptHeartbeatReply(
            cancel_requested=job.cancel_requested_at is not None,
            lease_expires_at=attempt.lease_expires_at,
        )

    async def finish(self, attempt_id: UUID, token: str, report: FinishRequest) -> FinishReply:
        """End an attempt and decide what becomes of its job.

        An identical repeat answers the same, marked `replayed`.

        Raises:
            AttemptNotFoundError, AttemptTokenError: no such attempt, or not its worker.
            AttemptSupersededError: it was taken from this worker.
            ReportConflictError: it had ended with another report.
            ResultIncompleteError: what is said to be the result was not committed.
        """
        job, attempt = await self._lock(attempt_id)
        self._check_token(attempt, token)
        report_hash = hashlib.sha256(report.model_dump_json().encode()).hexdigest()
        if attempt.status != AttemptStatus.RUNNING:
            if attempt.report_hash == report_hash:
                return FinishReply(job_status=job.status, replayed=True)
            if attempt.report_hash is not None:
                raise ReportConflictError
            raise _why_not_running(job, attempt)
        if job.current_attempt_id != attempt.id or job.status != JobStatus.RUNNING:
            raise AttemptSupersededError
        match report:
            case AttemptSucceeded():
                ended = await self._succeed(job, attempt, report, report_hash)
            case AttemptFailed():
                await self._end_attempt(
                    attempt,
                    AttemptStatus.FAILED,
                    report_hash=report_hash,
                    error_code=report.code,
                    error_message=_clean(report.message),
                )
                ended = await self._after_failure(
                    job, attempt, report.code, report.message, permanent=report.permanent
                )
            case AttemptCancelled():
                if job.cancel_requested_at is None:
                    raise ReportConflictError(
                        "Nobody asked to cancel this job. Report `released` to hand it back."
                    )
                await self._end_attempt(attempt, AttemptStatus.CANCELLED, report_hash=report_hash)
                ended = await self._cancel(job, attempt)
            case AttemptReleased():
                await self._end_attempt(attempt, AttemptStatus.RELEASED, report_hash=report_hash)
                ended = await self._requeue_released(job, attempt, report.reason)
            case _:
                assert_never(report)
        return FinishReply(job_status=ended.status)

    async def take_over(self, attempt_id: UUID) -> Job | None:
        """Declare a silent attempt LOST and decide what becomes of its job.

        Returns:
            The job, or None if the attempt has reported or ended in the meantime.
        """
        found = await lock_job_of_attempt(self._session, attempt_id)
        if found is None:
            return None
        job, attempt = found
        now = (await self._session.execute(select(func.now()))).scalar_one()
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
        await self._end_attempt(
            attempt, AttemptStatus.LOST, error_code=code.value, error_message=message
        )
        await record_event(
            self._session,
            job.id,
            "attempt.lost",
            attempt_id=attempt.id,
            data={"worker": attempt.worker_name, "code": code.value},
        )
        return await self._after_failure(job, attempt, code.value, message, permanent=False)

    async def withdraw(self, attempt_id: UUID) -> bool:
        """Take back a dispatched attempt that nobody has claimed; its job waits again.

        Returns:
            Whether it was still unclaimed.
        """
        found = await lock_job_of_attempt(self._session, attempt_id)
        if found is None or found[1].status != AttemptStatus.DISPATCHED:
            return False
        job, attempt = found
        await move_attempt(
            self._session,
            attempt.id,
            AttemptStatus.RELEASED,
            expected={AttemptStatus.DISPATCHED},
        )
        if job.current_attempt_id == attempt.id and job.status == JobStatus.QUEUED:
            await release_slot(self._session, job)
        await record_event(self._session, job.id, "attempt.withdrawn", attempt_id=attempt.id)
        return True

    # --- steps -----------------------------------------------------------------------------------

    async def _lock(self, attempt_id: UUID) -> tuple[Job, Attempt]:
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
        job, attempt = await self._lock(attempt_id)
        self._check_token(attempt, token)
        if (
            attempt.status != AttemptStatus.RUNNING
            or job.current_attempt_id != attempt.id
            or job.status != JobStatus.RUNNING
        ):
            raise _why_not_running(job, attempt)
        return job, attempt

    def _check_token(self, attempt: Attempt, token: str) -> None:
        if attempt.claim_id is None:
            raise AttemptTokenError("This attempt has not been claimed.")
        if not hmac.compare_digest(
            self.token(attempt.id, attempt.claim_id).encode(), token.encode()
        ):
            raise AttemptTokenError

    async def _start(
        self, job: Job, attempt: Attempt, request: ClaimRequest
    ) -> tuple[Attempt, Job]:
        if attempt.status != AttemptStatus.DISPATCHED or job.current_attempt_id != attempt.id:
            raise _why_not_running(job, attempt)
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
            raise _why_not_running(job, attempt)
        return running, started

    async def _end_attempt(self, attempt: Attempt, target: AttemptStatus, **values: object) -> None:
        ended = await move_attempt(
            self._session, attempt.id, target, expected={AttemptStatus.RUNNING}, **values
        )
        if ended is None:
            raise AttemptSupersededError

    async def _succeed(
        self, job: Job, attempt: Attempt, report: AttemptSucceeded, report_hash: str
    ) -> Job:
        committed = {
            row.id: row.kind
            for row in (
                await self._session.execute(
                    select(Artifact.id, Artifact.kind).where(Artifact.attempt_id == attempt.id)
                )
            )
        }
        missing = [str(id_) for id_ in report.artifact_ids if id_ not in committed]
        if missing:
            raise ResultIncompleteError(
                f"Not committed by this attempt: {', '.join(missing[:5])}. "
                "Upload and commit every artifact before reporting success."
            )
        model = await self._session.get_one(Model, job.model_id)
        if model.main_artifact not in {committed[id_] for id_ in report.artifact_ids}:
            raise ResultIncompleteError(
                f"The report has no artifact of kind {model.main_artifact}, "
                f"which is what {model.id} makes."
            )
        await self._end_attempt(
            attempt, AttemptStatus.SUCCEEDED, report_hash=report_hash, metrics=report.metrics
        )
        ended = await move_job(
            self._session,
            job.id,
            JobStatus.SUCCEEDED,
            expected={JobStatus.RUNNING},
            attempt_id=attempt.id,
            event_type="job.succeeded",
            event_data={"artifacts": len(report.artifact_ids)},
            progress_percent=100,
            stage="finished",
            message=None
            if job.cancel_requested_at is None
            else "It had finished before the cancellation reached the worker.",
        )
        return _must(ended)

    async def _after_failure(
        self, job: Job, attempt: Attempt, code: str, message: str, *, permanent: bool
    ) -> Job:
        """One more failure: cancelled if that was asked for, tried again if it is worth it."""
        if job.cancel_requested_at is not None:
            return await self._cancel(job, attempt)
        failures = job.failures + 1
        message = _clean(message) or code
        if not should_retry(failures=failures, max_attempts=job.max_attempts, permanent=permanent):
            return _must(
                await move_job(
                    self._session,
                    job.id,
                    JobStatus.FAILED,
                    expected={JobStatus.RUNNING},
                    attempt_id=attempt.id,
                    event_type="job.failed",
                    event_data={"code": code, "message": message, "permanent": permanent},
                    failures=failures,
                    error_code=code,
                    error_message=message,
                    error_permanent=permanent,
                    message=None,
                )
            )
        delay = retry_delay_seconds(
            failures, self._settings.retry_base_seconds, self._settings.retry_max_seconds
        )
        note = f"Attempt {failures} of {job.max_attempts} failed ({code}); trying again."
        return _must(
            await move_job(
                self._session,
                job.id,
                JobStatus.QUEUED,
                expected={JobStatus.RUNNING},
                attempt_id=attempt.id,
                event_type="job.retry_scheduled",
                event_data={"code": code, "message": message, "delay_seconds": delay},
                failures=failures,
                available_at=func.now() + seconds(delay),
                progress_percent=0,
                stage="waiting to retry",
                message=note,
            )
        )

    async def _requeue_released(self, job: Job, attempt: Attempt, reason: str) -> Job:
        if job.cancel_requested_at is not None:
            return await self._cancel(job, attempt)
        return _must(
            await move_job(
                self._session,
                job.id,
                JobStatus.QUEUED,
                expected={JobStatus.RUNNING},
                attempt_id=attempt.id,
                event_type="attempt.released",
                event_data={"worker": attempt.worker_name, "reason": _clean(reason)},
                available_at=func.now() + seconds(_RELEASE_DELAY_SECONDS),
                progress_percent=0,
                stage=None,
                message=None,
            )
        )

    async def _cancel(self, job: Job, attempt: Attempt) -> Job:
        return _must(
            await move_job(
                self._session,
                job.id,
                JobStatus.CANCELLED,
                expected={JobStatus.RUNNING},
                attempt_id=attempt.id,
                event_type="job.cancelled",
                message=None,
            )
        )


async def release_slot(session: AsyncSession, job: Job) -> None:
    """Put a QUEUED job that was dispatched back among those that wait."""
    await session.execute(
        update(Job)
        .where(Job.id == job.id)
        .values(slot=None)
        .execution_options(synchronize_session=False)
    )
    await announce_waiting_job(session, job)
    await wake_user(session, job.user_id)


def _must(job: Job | None) -> Job:
    """The job's row is locked and was checked, so the gate cannot have refused."""
    if job is None:
        raise AttemptSupersededError
    return job


def _why_not_running(job: Job, attempt: Attempt) -> AttemptGoneError | AttemptSupersededError:
    if attempt.status == AttemptStatus.CANCELLED or job.status in {
        JobStatus.CANCELLED,
        JobStatus.EXPIRED,
    }:
        return AttemptGoneError()
    if job.status in FINAL_JOB_STATUSES:
        return AttemptSupersededError(f"The job has ended: {job.status}.")
    return AttemptSupersededError()


def _clean(value: str | None) -> str | None:
    """Text of a worker without what Postgres cannot store, at a readable length."""
    return value.replace("\x00", "\N{REPLACEMENT CHARACTER}")[:_MESSAGE_LIMIT] if value else None
