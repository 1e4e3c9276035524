"""The life cycle of jobs and attempts: states, who may follow whom, and when to try again.

Pure: no database, no clock. docs/state-machine.md draws it.
"""

from enum import StrEnum


class JobStatus(StrEnum):
    """Where a job stands."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"


class AttemptStatus(StrEnum):
    """Where one execution of a job stands."""

    DISPATCHED = "DISPATCHED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    LOST = "LOST"
    RELEASED = "RELEASED"


JOB_TRANSITIONS: dict[JobStatus, frozenset[JobStatus]] = {
    # The worker's claim runs it; the user cancels it.
    JobStatus.QUEUED: frozenset({JobStatus.RUNNING, JobStatus.CANCELLED}),
    # The worker's report or the rescuer ends it, or puts it back for another attempt.
    JobStatus.RUNNING: frozenset(
        {JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.QUEUED}
    ),
    # Retention expires what has ended; the user may retry what did not succeed.
    JobStatus.SUCCEEDED: frozenset({JobStatus.EXPIRED}),
    JobStatus.FAILED: frozenset({JobStatus.EXPIRED, JobStatus.QUEUED}),
    JobStatus.CANCELLED: frozenset({JobStatus.EXPIRED, JobStatus.QUEUED}),
    JobStatus.EXPIRED: frozenset(),
}

ATTEMPT_TRANSITIONS: dict[AttemptStatus, frozenset[AttemptStatus]] = {
    # Claimed; cancelled with its job; or withdrawn because nobody is left to take it.
    AttemptStatus.DISPATCHED: frozenset(
        {AttemptStatus.RUNNING, AttemptStatus.CANCELLED, AttemptStatus.RELEASED}
    ),
    # Reported by its worker, or LOST by the rescuer when the lease ends.
    AttemptStatus.RUNNING: frozenset(
        {
            AttemptStatus.SUCCEEDED,
            AttemptStatus.FAILED,
            AttemptStatus.CANCELLED,
            AttemptStatus.LOST,
            AttemptStatus.RELEASED,
        }
    ),
    AttemptStatus.SUCCEEDED: frozenset(),
    AttemptStatus.FAILED: frozenset(),
    AttemptStatus.CANCELLED: frozenset(),
    AttemptStatus.LOST: frozenset(),
    AttemptStatus.RELEASED: frozenset(),
}

FINAL_JOB_STATUSES = frozenset(
    {JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.EXPIRED}
)

GRACE_SECONDS = 600
"""How long after the model's time limit an attempt's worker may still deliver its result."""


class IllegalTransitionError(Exception):
    """A status was asked to change in a way the life cycle does not have. A bug, never input."""


def check_job_transition(source: JobStatus, target: JobStatus) -> None:
    """Raise `IllegalTransitionError` unless a job may go from one status to the other."""
    if target not in JOB_TRANSITIONS[source]:
        raise IllegalTransitionError(f"a job cannot go from {source} to {target}")


def check_attempt_transition(source: AttemptStatus, target: AttemptStatus) -> None:
    """Raise `IllegalTransitionError` unless an attempt may go from one status to the other."""
    if target not in ATTEMPT_TRANSITIONS[source]:
        raise IllegalTransitionError(f"an attempt cannot go from {source} to {target}")


def retry_delay_seconds(failures: int, base: float, maximum: float) -> float:
    """How long to wait after the n-th failure: base, 2 base, 4 base …, at most `maximum`."""
    if failures < 1:
        raise ValueError("there is no retry before the first failure")
    # The exponent is bounded, so that no float overflows.
    return float(min(base * 2.0 ** min(failures - 1, 60), maximum))


def should_retry(*, failures: int, max_attempts: int, permanent: bool) -> bool:
    """Whether another attempt is worth its cost after `failures` failed ones."""
    return not permanent and failures < max_attempts
