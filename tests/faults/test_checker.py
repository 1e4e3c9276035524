"""The checker complains of each thing that it is there for, and of nothing else."""

from typing import Any

import pytest

from tests.faults import checker
from tests.faults.checker import TELLS, TOO_LATE, Records
from tests.faults.clients import Told
from tests.faults.cluster import MAX_ACTIVE, Account

ADA = Account("ada", "a key")
GOOD = ["job.created", "job.dispatched", "job.started", "artifact.added", "job.succeeded"]
CANCELLED_TOO_LATE = [*GOOD[:-1], "job.cancel_requested", GOOD[-1]]


def records_of(**paths: list[str]) -> Records:
    """Jobs of one user, which succeeded if that is the end of their events; one after the other."""
    records = Records.__new__(Records)
    records.jobs, records.attempts, records.events, records.deliveries = {}, [], {}, {}
    number = 0
    for name, path in paths.items():
        status = "SUCCEEDED" if path[-1] == "job.succeeded" else "QUEUED"
        records.jobs[name] = {
            "id": name,
            "user_id": "ada",
            "status": status,
            "message": None,
            "error_code": None,
            "idempotency_key": f"key of {name}",
        }
        records.attempts.append({"id": f"{name}-1", "job_id": name, "status": status})
        records.events[name] = []
        records.deliveries[name] = [
            {"event_id": f"{name} {event}", "type": TELLS[event], "status": "DELIVERED"}
            for event in path
            if event in TELLS
        ]
        for event in path:
            number += 1
            attempt = None if event == "job.created" else f"{name}-1"
            records.events[name].append(
                {"id": number, "job_id": name, "attempt_id": attempt, "type": event, "at": 0.0}
            )
    return records


def told_of(*names: str, cancel: tuple[int, str] | None = None) -> list[Told]:
    """What a client was told of jobs that it created."""
    return [Told(ADA, f"key of {name}", {}, {name}, cancel) for name in names]


def taken_of(records: Records) -> set[str]:
    """All messages that there are."""
    return {message["event_id"] for of_job in records.deliveries.values() for message in of_job}


def complaints(
    told: list[Told], records: Records, *, taken: set[str] | None = None
) -> dict[str, list[str]]:
    """What each check that looks only at records says."""
    found = {
        "lost": checker.lost_jobs(told, records),
        "doubled": checker.doubled_jobs(told, records),
        "path": checker.illegal_paths(records),
        "limit": checker.too_many_active(0, records),
        "cancel": checker.unexplained_cancellations(told, records),
        "messages": checker.bad_messages(taken_of(records) if taken is None else taken, records),
    }
    return {name: said for name, said in found.items() if said}


def test_nothing_to_complain_of() -> None:
    """Jobs that succeed one after the other are fine, however many."""
    names = [f"job{number}" for number in range(MAX_ACTIVE + 2)]
    assert complaints(told_of(*names), records_of(**dict.fromkeys(names, GOOD))) == {}


def test_job_that_is_not_there() -> None:
    """An acknowledged job must exist."""
    assert complaints(told_of("one", "gone"), records_of(one=GOOD)).keys() == {"lost"}


def test_job_that_never_ends() -> None:
    """So must its end."""
    stuck = records_of(one=GOOD[:1])
    assert complaints(told_of("one"), stuck).keys() >= {"lost"}


def test_two_successes() -> None:
    """A job has one."""
    records = records_of(one=GOOD)
    records.attempts.append({"id": "one-2", "job_id": "one", "status": "SUCCEEDED"})
    assert complaints(told_of("one"), records).keys() == {"doubled"}


def test_two_jobs_of_a_key() -> None:
    """A key makes one."""
    records = records_of(one=GOOD, two=GOOD)
    records.jobs["two"]["idempotency_key"] = records.jobs["one"]["idempotency_key"]
    assert complaints(told_of("one"), records).keys() == {"doubled"}


def test_event_of_a_foreign_attempt() -> None:
    """Only the attempt that was dispatched last speaks for a job."""
    records = records_of(one=GOOD)
    records.events["one"][-2]["attempt_id"] = "zombie"
    assert complaints(told_of("one"), records).keys() == {"path"}


def test_too_many_at_one_moment() -> None:
    """A limit that was exceeded for a moment, between two samples, shows in the order of events."""
    names = [f"job{number}" for number in range(MAX_ACTIVE + 1)]
    records = records_of(**dict.fromkeys(names, GOOD))
    for name in names:  # all are dispatched, and then all end
        for event in records.events[name]:
            event["id"] += 100 * GOOD.index(event["type"])
    assert complaints(told_of(*names), records).keys() == {"limit"}
    assert checker.too_many_active(MAX_ACTIVE + 1, records_of(one=GOOD))


@pytest.mark.parametrize(
    ("message", "told", "fine"),
    [(TOO_LATE, "RUNNING", True), (None, "RUNNING", False), (TOO_LATE, "CANCELLED", False)],
)
def test_cancelled_job_that_succeeded(message: Any, told: str, fine: bool) -> None:  # noqa: FBT001
    """It says why, and only if the client was told that it was still running."""
    records = records_of(one=CANCELLED_TOO_LATE)
    records.jobs["one"]["message"] = message
    found = complaints(told_of("one", cancel=(200, told)), records)
    assert found.keys() == (set() if fine else {"cancel"})


@pytest.mark.parametrize("change", ["forgotten", "doubled", "given up", "untrue"])
def test_messages(change: str) -> None:
    """One is queued of each event, and said to be delivered only if it was; it may wait."""
    records = records_of(one=GOOD)
    messages, taken = records.deliveries["one"], taken_of(records)
    messages[0]["status"] = "PENDING"
    assert complaints(told_of("one"), records, taken=taken - {messages[0]["event_id"]}) == {}
    if change == "forgotten":
        messages.pop()
    elif change == "doubled":
        messages.append(messages[-1])
    elif change == "given up":
        messages[-1]["status"] = "FAILED"
    else:
        taken.discard(messages[-1]["event_id"])
    assert complaints(told_of("one"), records, taken=taken).keys() == {"messages"}
