"""What the database allows is what the life cycle's enums say."""

import itertools
import re
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, insert, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts.tables import User
from app.db.session import Database
from app.jobs.lifecycle import FINAL_JOB_STATUSES, AttemptStatus, JobStatus
from app.jobs.tables import Attempt, Job


async def _allowed_by_check(database: Database, constraint: str) -> set[str]:
    async with database.transaction() as session:
        definition = (
            await session.execute(
                text("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = :name"),
                {"name": constraint},
            )
        ).scalar_one()
    return set(re.findall(r"'(\w+)'", definition))


async def _accepted(session: AsyncSession, statement: Any) -> bool:
    try:
        async with session.begin_nested():
            await session.execute(statement)
    except IntegrityError:
        return False
    return True


async def _job(session: AsyncSession) -> dict[str, Any]:
    user = (await session.execute(select(User).limit(1))).scalar_one()
    return {
        "organisation_id": user.organisation_id,
        "user_id": user.id,
        "model_id": "inflate-v1",
        "model_version": "1",
        "queue": "cpu",
        "input_params": {},
        "max_attempts": 3,
        "error_code": "SOME_ERROR",
    }


@pytest.mark.parametrize(
    ("constraint", "statuses"),
    [("ck_jobs_status", JobStatus), ("ck_attempts_status", AttemptStatus)],
)
async def test_enum_equals_check(
    database: Database, constraint: str, statuses: type[JobStatus | AttemptStatus]
) -> None:
    """The statuses that the database knows are those of the enum."""
    assert await _allowed_by_check(database, constraint) == {status.value for status in statuses}


async def test_job_status_against_completion_and_slot(database: Database) -> None:
    """The database takes a job only if its status fits its time of completion and its slot."""
    cases = list(itertools.product([*JobStatus, "DONE"], (False, True), (False, True)))
    async with database.transaction() as session:
        values = await _job(session)
        accepted = set()
        for number, (status, completed, holds_slot) in enumerate(cases):
            row = {
                **values,
                "id": uuid4(),
                "status": str(status),
                "completed_at": func.now() if completed else None,
                "slot": number + 1 if holds_slot else None,
            }
            if await _accepted(session, insert(Job).values(row)):
                accepted.add((str(status), completed, holds_slot))
    assert accepted == {
        ("QUEUED", False, False),
        ("QUEUED", False, True),
        ("RUNNING", False, True),
        *((status.value, True, False) for status in FINAL_JOB_STATUSES),
    }


async def test_bare_status_changes(database: Database) -> None:
    """A status written past the gate is refused where slot or time of completion must follow."""

    def shape(status: JobStatus) -> tuple[bool, bool]:
        return status in FINAL_JOB_STATUSES, status == JobStatus.RUNNING

    async with database.transaction() as session:
        values = await _job(session)
        for number, (source, target) in enumerate(itertools.product(JobStatus, JobStatus)):
            row = {
                **values,
                "id": uuid4(),
                "status": source.value,
                "completed_at": func.now() if source in FINAL_JOB_STATUSES else None,
                "slot": number + 1 if source == JobStatus.RUNNING else None,
            }
            await session.execute(insert(Job).values(row))
            bare = update(Job).where(Job.id == row["id"]).values(status=target.value)
            # A queued job may hold a slot: that is what a dispatched one looks like.
            fits = shape(source) == shape(target) or (source, target) == ("RUNNING", "QUEUED")
            assert await _accepted(session, bare) == fits, (source, target)


async def test_failed_job_has_a_code(database: Database) -> None:
    """A FAILED job without an error code is refused."""
    async with database.transaction() as session:
        row = {**await _job(session), "status": "FAILED", "completed_at": func.now()}
        assert await _accepted(session, insert(Job).values({**row, "id": uuid4()}))
        bare = {**row, "id": uuid4(), "error_code": None}
        assert not await _accepted(session, insert(Job).values(bare))


async def test_slot_is_held_once(database: Database) -> None:
    """Two jobs of one user cannot hold the same slot."""
    async with database.transaction() as session:
        row = {**await _job(session), "status": "RUNNING"}
        for slot, fits in ((1, True), (1, False), (2, True)):
            job = {**row, "id": uuid4(), "slot": slot}
            assert await _accepted(session, insert(Job).values(job)) == fits


async def _attempt_of_a_job(session: AsyncSession) -> dict[str, Any]:
    job_id: UUID = uuid4()
    await session.execute(insert(Job).values({**await _job(session), "id": job_id}))
    return {
        "id": uuid4(),
        "job_id": job_id,
        "model_id": "inflate-v1",
        "queue": "cpu",
        "number": 1,
        "time_limit_seconds": 60,
    }


async def test_attempt_status_against_lease_and_end(database: Database) -> None:
    """The database takes an attempt only if its status fits its lease and its end."""
    cases = itertools.product([*AttemptStatus, "DONE"], (False, True), (False, True))
    accepted = set()
    async with database.transaction() as session:
        for status, leased, finished in cases:
            row = {
                **await _attempt_of_a_job(session),
                "status": str(status),
                "lease_expires_at": func.now() if leased else None,
                "claim_id": uuid4() if leased else None,
                "finished_at": func.now() if finished else None,
            }
            if await _accepted(session, insert(Attempt).values(row)):
                accepted.add((str(status), leased, finished))
    ended = {"SUCCEEDED", "FAILED", "CANCELLED", "LOST", "RELEASED"}
    assert accepted == {
        ("DISPATCHED", False, False),
        ("DISPATCHED", True, False),
        ("RUNNING", True, False),
        *itertools.product(ended, (False, True), (True,)),
    }


async def test_job_has_one_live_attempt(database: Database) -> None:
    """A second live attempt of one job is refused, whatever code tries to make it."""
    async with database.transaction() as session:
        first = await _attempt_of_a_job(session)
        await session.execute(insert(Attempt).values({**first, "status": "DISPATCHED"}))
        second = {**first, "id": uuid4(), "number": 2, "status": "DISPATCHED"}
        assert not await _accepted(session, insert(Attempt).values(second))
        await session.execute(
            update(Attempt)
            .where(Attempt.id == first["id"])
            .values(status="RELEASED", finished_at=func.now())
        )
        assert await _accepted(session, insert(Attempt).values(second))
