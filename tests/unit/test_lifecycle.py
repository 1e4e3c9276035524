"""The life cycle: who may follow whom, and when there is another attempt."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.jobs.lifecycle import (
    ATTEMPT_TRANSITIONS,
    FINAL_JOB_STATUSES,
    JOB_TRANSITIONS,
    AttemptStatus,
    IllegalTransitionError,
    JobStatus,
    check_attempt_transition,
    check_job_transition,
    retry_delay_seconds,
    should_retry,
)

# Written out once more, so that a change of the table has to be meant.
JOB_STEPS = {
    ("QUEUED", "RUNNING"),
    ("QUEUED", "CANCELLED"),
    ("RUNNING", "SUCCEEDED"),
    ("RUNNING", "FAILED"),
    ("RUNNING", "CANCELLED"),
    ("RUNNING", "QUEUED"),
    ("SUCCEEDED", "EXPIRED"),
    ("FAILED", "EXPIRED"),
    ("FAILED", "QUEUED"),
    ("CANCELLED", "EXPIRED"),
    ("CANCELLED", "QUEUED"),
}
ATTEMPT_STEPS = {
    ("DISPATCHED", "RUNNING"),
    ("DISPATCHED", "CANCELLED"),
    ("DISPATCHED", "RELEASED"),
    ("RUNNING", "SUCCEEDED"),
    ("RUNNING", "FAILED"),
    ("RUNNING", "CANCELLED"),
    ("RUNNING", "LOST"),
    ("RUNNING", "RELEASED"),
}


@pytest.mark.parametrize(("source", "target"), [*itertools.product(JobStatus, JobStatus)])
def test_job_steps(source: JobStatus, target: JobStatus) -> None:
    """A job may go from one status to another exactly where the life cycle says so."""
    if (source, target) in JOB_STEPS:
        check_job_transition(source, target)
    else:
        with pytest.raises(IllegalTransitionError, match=f"from {source} to {target}"):
            check_job_transition(source, target)


@pytest.mark.parametrize(("source", "target"), [*itertools.product(AttemptStatus, AttemptStatus)])
def test_attempt_steps(source: AttemptStatus, target: AttemptStatus) -> None:
    """An attempt may go from one status to another exactly where the life cycle says so."""
    if (source, target) in ATTEMPT_STEPS:
        check_attempt_transition(source, target)
    else:
        with pytest.raises(IllegalTransitionError, match=f"from {source} to {target}"):
            check_attempt_transition(source, target)


def test_every_status_has_a_row() -> None:
    """No status is missing from the tables of transitions."""
    assert set(JOB_TRANSITIONS) == set(JobStatus)
    assert set(ATTEMPT_TRANSITIONS) == set(AttemptStatus)


def test_ended_attempts_stay_ended() -> None:
    """An attempt that is not live leads nowhere, and a live one somewhere."""
    for status, targets in ATTEMPT_TRANSITIONS.items():
        assert bool(targets) == (status.value in {"DISPATCHED", "RUNNING"})


def test_only_expired_is_the_end() -> None:
    """Every final status but EXPIRED can still expire."""
    assert JOB_TRANSITIONS[JobStatus.EXPIRED] == frozenset()
    for status in FINAL_JOB_STATUSES - {JobStatus.EXPIRED}:
        assert JobStatus.EXPIRED in JOB_TRANSITIONS[status]
    assert {JobStatus.QUEUED, JobStatus.RUNNING}.isdisjoint(FINAL_JOB_STATUSES)


@pytest.mark.parametrize(
    ("failures", "seconds"), [(1, 30), (2, 60), (3, 120), (4, 240), (5, 300), (6, 300), (5000, 300)]
)
def test_waits_double_up_to_five_minutes(failures: int, seconds: float) -> None:
    """The wait before a retry is 30 s, doubles with each failure and is at most 300 s."""
    assert retry_delay_seconds(failures, 30, 300) == seconds


@given(
    st.integers(1, 10**9),
    st.floats(0, 1e6, allow_subnormal=False),
    st.floats(0, 1e6, allow_subnormal=False),
)
def test_waits_never_fall(failures: int, base: float, maximum: float) -> None:
    """Whatever the settings, a wait is no shorter than the one before and within the maximum."""
    wait = retry_delay_seconds(failures, base, maximum)
    assert wait <= maximum
    assert retry_delay_seconds(failures + 1, base, maximum) >= wait


@pytest.mark.parametrize("failures", [0, -1])
def test_no_wait_before_a_failure(failures: int) -> None:
    """Asking how long to wait after no failure is a mistake."""
    with pytest.raises(ValueError, match="first failure"):
        retry_delay_seconds(failures, 30, 300)


@pytest.mark.parametrize(
    ("failures", "max_attempts", "permanent", "again"),
    [
        (0, 3, False, True),
        (1, 3, False, True),
        (2, 3, False, True),
        (3, 3, False, False),
        (4, 3, False, False),
        (1, 1, False, False),
        (1, 3, True, False),
        (3, 3, True, False),
    ],
)
def test_another_attempt(failures: int, max_attempts: int, *, permanent: bool, again: bool) -> None:
    """There is another attempt while the budget lasts, never after a permanent failure."""
    assert should_retry(failures=failures, max_attempts=max_attempts, permanent=permanent) == again
