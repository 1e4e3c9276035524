"""Tables of jobs, attempts, events and the users' queue."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    REAL,
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    SmallInteger,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, new_id
from app.jobs.lifecycle import FINAL_JOB_STATUSES, AttemptStatus, JobStatus


def _sql_list(values: Iterable[str]) -> str:
    return ", ".join(f"'{value}'" for value in sorted(values))


class Job(Base):
    """What a user asked for. Its row is also the outbox: whatever is QUEUED is to be dispatched.

    `status` is assigned by `app.jobs.repository.move_job` alone.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint(f"status IN ({_sql_list(JobStatus)})", name="status"),
        CheckConstraint(
            f"(status IN ({_sql_list(FINAL_JOB_STATUSES)})) = (completed_at IS NOT NULL)",
            name="completed_at",
        ),
        CheckConstraint("(status = 'FAILED') <= (error_code IS NOT NULL)", name="error_code"),
        CheckConstraint(
            "CASE status WHEN 'QUEUED' THEN true WHEN 'RUNNING' THEN slot IS NOT NULL"
            " ELSE slot IS NULL END",
            name="slot",
        ),
        # The limit of active jobs is this index, not a count: counting races.
        Index(
            "uq_jobs_user_id_slot",
            "user_id",
            "slot",
            unique=True,
            postgresql_where=text("slot IS NOT NULL"),
        ),
        Index(
            "ix_jobs_waiting",
            "user_id",
            "queue",
            "model_id",
            text("priority DESC"),
            "seq",
            postgresql_where=text("status = 'QUEUED' AND slot IS NULL"),
        ),
        Index(
            "uq_jobs_idempotency_key",
            "user_id",
            "idempotency_key",
            unique=True,
            postgresql_where=text("idempotency_key IS NOT NULL"),
        ),
        Index("ix_jobs_user_id_id", "user_id", text("id DESC")),
        Index("ix_jobs_organisation_id_id", "organisation_id", text("id DESC")),
        Index("ix_jobs_organisation_id_status_id", "organisation_id", "status", text("id DESC")),
        Index(
            "ix_jobs_expires_at",
            "expires_at",
            postgresql_where=text("status IN ('SUCCEEDED', 'FAILED', 'CANCELLED')"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    seq: Mapped[int] = mapped_column(BigInteger, Identity(always=True), doc="age, for ordering")
    organisation_id: Mapped[UUID] = mapped_column(ForeignKey("organisations.id"))
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"))
    model_version: Mapped[str]
    queue: Mapped[str]
    status: Mapped[str] = mapped_column(default=JobStatus.QUEUED)
    input_params: Mapped[dict[str, Any]]
    prompt: Mapped[str | None]
    reproduces: Mapped[UUID | None] = mapped_column(
        ForeignKey("jobs.id"), doc="the job that this one makes again"
    )
    priority: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))

    max_attempts: Mapped[int] = mapped_column(SmallInteger)
    failures: Mapped[int] = mapped_column(
        SmallInteger, server_default=text("0"), doc="attempts that failed or were lost"
    )
    releases: Mapped[int] = mapped_column(
        SmallInteger, server_default=text("0"), doc="attempts handed back since the last failure"
    )
    slot: Mapped[int | None] = mapped_column(
        SmallInteger, doc="which of the user's active places it holds, from dispatch to its end"
    )
    current_attempt_id: Mapped[UUID | None]
    main_artifact_id: Mapped[UUID | None] = mapped_column(doc="what `download` answers with")
    available_at: Mapped[datetime] = mapped_column(
        server_default=func.now(), doc="not dispatched before"
    )
    cancel_requested_at: Mapped[datetime | None]

    progress_percent: Mapped[float] = mapped_column(REAL, server_default=text("0"))
    stage: Mapped[str | None]
    message: Mapped[str | None]
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    error_permanent: Mapped[bool | None]

    idempotency_key: Mapped[str | None]
    request_hash: Mapped[str | None] = mapped_column(doc="of the body, for the idempotency key")
    request_id: Mapped[str | None]
    traceparent: Mapped[str | None]

    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]


class Attempt(Base):
    """One execution of a job. Its id is the RQ job's id.

    `status` is assigned by `app.jobs.repository` alone.
    """

    __tablename__ = "attempts"
    __table_args__ = (
        CheckConstraint(f"status IN ({_sql_list(AttemptStatus)})", name="status"),
        CheckConstraint(
            "(status = 'RUNNING') <= (lease_expires_at IS NOT NULL AND claim_id IS NOT NULL)",
            name="lease",
        ),
        CheckConstraint(
            "(status IN ('DISPATCHED', 'RUNNING')) = (finished_at IS NULL)", name="finished_at"
        ),
        Index(
            "uq_attempts_live",
            "job_id",
            unique=True,
            postgresql_where=text("status IN ('DISPATCHED', 'RUNNING')"),
        ),
        Index("ix_attempts_job_id", "job_id"),
        Index(
            "ix_attempts_lease_expires_at",
            "lease_expires_at",
            postgresql_where=text("status = 'RUNNING'"),
        ),
        Index(
            "ix_attempts_live_queue",
            "queue",
            "status",
            "dispatched_at",
            postgresql_where=text("status IN ('DISPATCHED', 'RUNNING')"),
        ),
        Index(
            "ix_attempts_run_times",
            "model_id",
            text("finished_at DESC"),
            postgresql_where=text("status = 'SUCCEEDED'"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    model_id: Mapped[str]
    queue: Mapped[str]
    number: Mapped[int] = mapped_column(
        SmallInteger, doc="1 for the first of the job's budget; a released one is numbered again"
    )
    status: Mapped[str] = mapped_column(default=AttemptStatus.DISPATCHED)
    time_limit_seconds: Mapped[int]
    worker_name: Mapped[str | None]
    claim_id: Mapped[UUID | None]
    lease_expires_at: Mapped[datetime | None]
    deadline_at: Mapped[datetime | None] = mapped_column(doc="no heartbeat extends beyond it")
    dispatched_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    report_hash: Mapped[str | None] = mapped_column(doc="of the finish report, to know a repeat")
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    last_event: Mapped[int] = mapped_column(
        server_default=text("0"), doc="sequence of the newest detected event, to know a repeat"
    )
    log_tail: Mapped[str | None] = mapped_column(doc="the last lines of a run that failed")
    metrics: Mapped[dict[str, float] | None]


class JobEvent(Base):
    """An immutable fact about a job, in the past tense; also what the event stream replays."""

    __tablename__ = "job_events"
    __table_args__ = (Index("ix_job_events_job_id_id", "job_id", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    attempt_id: Mapped[UUID | None]
    type: Mapped[str]
    data: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class UserQueue(Base):
    """One user's place in the round robin of one queue, for each model the user has asked for.

    By model, so that jobs nobody can serve now stand in nobody's way. `ready_at` is when the user
    may next have something to dispatch: NULL when nothing waits, in the future when all slots are
    taken or a retry has to wait.
    """

    __tablename__ = "user_queue"
    __table_args__ = (
        Index(
            "ix_user_queue_turn",
            "queue",
            "model_id",
            text("last_admit_at NULLS FIRST"),
            "user_id",
            postgresql_where=text("ready_at IS NOT NULL"),
        ),
    )

    user_id: Mapped[UUID] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True
    )
    queue: Mapped[str] = mapped_column(primary_key=True)
    model_id: Mapped[str] = mapped_column(primary_key=True)
    ready_at: Mapped[datetime | None]
    last_admit_at: Mapped[datetime | None]
