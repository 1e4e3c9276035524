"""Two transactions on two connections want to end the same attempt: the first wins, cleanly.

The first is held open until the second is seen to wait for its lock, so that every run of these
tests has the same order of things.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts.principal import Principal
from app.accounts.roles import Role
from app.config import Settings
from app.db.session import Database
from app.errors import AppError
from app.jobs.attempts import AttemptService
from app.jobs.fence import require_running
from app.jobs.recovery import take_over
from app.jobs.service import cancel_job
from app.jobs.success import end_with_success
from app.queueing.dispatcher import Dispatcher
from contract.attempts import AttemptFailed, AttemptHeartbeat, AttemptSucceeded, JobSpec
from tests.support.jobs import attempts_of, dispatch, end_lease
from tests.support.people import People, Person
from tests.support.worker import FakeWorker

Step = Callable[[AsyncSession], Awaitable[Any]]

FAILURE = AttemptFailed(code="PIPELINE_ERROR", message="it broke", permanent=True)


async def wait_for_a_blocked_connection(database: Database) -> None:
    """Until some connection waits for a lock."""
    while True:
        async with database.transaction() as session:
            blocked = await session.execute(
                text(
                    "SELECT count(*) FROM pg_stat_activity "
                    "WHERE wait_event_type = 'Lock' AND datname = current_database()"
                )
            )
            if blocked.scalar_one():
                return


async def race(database: Database, first: Step, second: Step) -> tuple[Any, Any]:
    """Run both, the first one's commit after the second has begun to wait for it.

    An error of the application is an answer too.
    """

    async def run_second() -> Any:
        try:
            async with database.transaction() as session:
                return await second(session)
        except AppError as error:
            return error

    async with database.transaction() as session:
        one = await first(session)
        other = asyncio.create_task(run_second())
        await wait_for_a_blocked_connection(database)
        assert not other.done()
    return one, await other


@pytest.fixture
async def ada(people: People) -> Person:
    return await people.make()


@pytest.fixture
async def running(
    ada: Person, worker: FakeWorker, dispatcher: Dispatcher, database: Database
) -> JobSpec:
    """An attempt that a worker runs."""
    job = await ada.job()
    await worker.report()
    return await worker.start(await dispatch(database, dispatcher, job["id"]))


@pytest.fixture
async def steps(
    running: JobSpec, ada: Person, settings: Settings, worker: FakeWorker, database: Database
) -> dict[str, Step]:
    """What may happen to the running attempt."""
    success = AttemptSucceeded(artifact_ids=[await worker.upload(running)])
    async with database.statements() as connection:
        attempt = await require_running(
            connection, settings, running.attempt_id, running.attempt_token
        )

    async def succeed(session: AsyncSession) -> Any:
        return await end_with_success(await session.connection(), attempt, success)

    async def finish(session: AsyncSession) -> Any:
        return await AttemptService(session, settings).finish(
            running.attempt_id, running.attempt_token, FAILURE
        )

    async def rescue(session: AsyncSession) -> Any:
        return await take_over(session, settings, running.attempt_id)

    async def heartbeat(session: AsyncSession) -> Any:
        return await AttemptService(session, settings).heartbeat(
            running.attempt_id, running.attempt_token, AttemptHeartbeat()
        )

    async def cancel(session: AsyncSession) -> Any:
        organisation = await session.execute(
            text("SELECT organisation_id FROM users WHERE id = :id"), {"id": ada.id}
        )
        principal = Principal(ada.id, organisation.scalar_one(), ada.username, Role.OPERATOR)
        return await cancel_job(session, principal, running.job_id)

    return {
        "finish": finish,
        "succeed": succeed,
        "rescue": rescue,
        "heartbeat": heartbeat,
        "cancel": cancel,
    }


async def test_finish_before_rescue(
    running: JobSpec, steps: dict[str, Step], database: Database, ada: Person
) -> None:
    """A report that is first keeps the rescuer's hands off."""
    await end_lease(database, running.attempt_id)

    report, rescued = await race(database, steps["finish"], steps["rescue"])

    assert report.job_status == "FAILED"
    assert rescued is None
    assert (await attempts_of(database, running.job_id))[0].status == "FAILED"
    assert (await ada.get(running.job_id))["error"]["code"] == "PIPELINE_ERROR"


async def test_rescue_before_finish(
    running: JobSpec, steps: dict[str, Step], database: Database, ada: Person
) -> None:
    """A zombie's report after the rescue is superseded, and the job is tried again."""
    await end_lease(database, running.attempt_id)

    rescued, report = await race(database, steps["rescue"], steps["finish"])

    assert rescued.status == "QUEUED"
    assert report.code == "ATTEMPT_SUPERSEDED"
    assert (await attempts_of(database, running.job_id))[0].status == "LOST"
    assert (await ada.get(running.job_id))["status"] == "QUEUED"


async def test_heartbeat_before_rescue(
    running: JobSpec, steps: dict[str, Step], database: Database
) -> None:
    """A heartbeat in the last moment saves the lease."""
    await end_lease(database, running.attempt_id)

    _, rescued = await race(database, steps["heartbeat"], steps["rescue"])

    assert rescued is None
    assert (await attempts_of(database, running.job_id))[0].status == "RUNNING"


async def test_two_rescuers(
    running: JobSpec, steps: dict[str, Step], database: Database, ada: Person
) -> None:
    """Two rescuers take an attempt over once, so that it counts as one failure."""
    await end_lease(database, running.attempt_id)

    first, second = await race(database, steps["rescue"], steps["rescue"])

    assert first is not None
    assert second is None
    assert (await ada.events(running.job_id)).count("attempt.lost") == 1


async def test_cancel_before_finish(
    running: JobSpec, steps: dict[str, Step], database: Database, ada: Person
) -> None:
    """A failure that arrives after the request to cancel ends the job as CANCELLED."""
    _, report = await race(database, steps["cancel"], steps["finish"])

    assert report.job_status == "CANCELLED"
    events = await ada.events(running.job_id)
    assert events[-2:] == ["job.cancel_requested", "job.cancelled"]


async def test_finish_before_cancel(
    running: JobSpec, steps: dict[str, Step], database: Database, ada: Person
) -> None:
    """A job that has just ended cannot be cancelled any more."""
    report, refused = await race(database, steps["finish"], steps["cancel"])

    assert report.job_status == "FAILED"
    assert refused.code == "JOB_STATE_CONFLICT"
    assert "job.cancel_requested" not in await ada.events(running.job_id)


async def test_identical_reports_at_once(
    running: JobSpec, steps: dict[str, Step], database: Database, ada: Person
) -> None:
    """The same report sent twice at once ends the job once; the second is a replay."""
    first, second = await race(database, steps["finish"], steps["finish"])

    assert (first.replayed, second.replayed) == (False, True)
    assert (await ada.events(running.job_id)).count("job.failed") == 1


async def test_success_before_rescue(
    running: JobSpec, steps: dict[str, Step], database: Database, ada: Person
) -> None:
    """A result that is first stays, though the lease was over."""
    await end_lease(database, running.attempt_id)

    _, rescued = await race(database, steps["succeed"], steps["rescue"])

    assert rescued is None
    assert (await attempts_of(database, running.job_id))[0].status == "SUCCEEDED"
    assert (await ada.get(running.job_id))["status"] == "SUCCEEDED"


async def test_rescue_before_success(
    running: JobSpec, steps: dict[str, Step], database: Database, ada: Person
) -> None:
    """A zombie's success after the rescue changes nothing: it sees what it waited for."""
    await end_lease(database, running.attempt_id)

    rescued, refused = await race(database, steps["rescue"], steps["succeed"])

    assert rescued.status == "QUEUED"
    assert refused is None
    assert (await attempts_of(database, running.job_id))[0].status == "LOST"
    job = await ada.get(running.job_id)
    assert job["status"] == "QUEUED"
    assert "job.succeeded" not in await ada.events(running.job_id)


async def test_cancel_before_success(
    running: JobSpec, steps: dict[str, Step], database: Database, ada: Person
) -> None:
    """A result that was already there when somebody asked to cancel is kept, and says so."""
    await race(database, steps["cancel"], steps["succeed"])

    job = await ada.get(running.job_id)
    assert job["status"] == "SUCCEEDED"
    assert "before the cancellation" in job["message"]


async def test_success_twice_at_once(
    running: JobSpec, steps: dict[str, Step], database: Database, ada: Person
) -> None:
    """The same success sent twice at once ends the job once."""
    first, second = await race(database, steps["succeed"], steps["succeed"])

    assert first is not None
    assert second is None
    assert (await ada.events(running.job_id)).count("job.succeeded") == 1
