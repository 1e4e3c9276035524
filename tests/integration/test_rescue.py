"""Rescue: what happens to jobs whose worker has fallen silent."""

from sqlalchemy import text

from app.config import Settings
from app.db.base import new_id
from app.db.session import Database
from app.queueing.dispatcher import Dispatcher
from app.queueing.rescuer import rescue_lost_attempts
from app.workers.api_pulse import beat
from tests.support.jobs import attempts_of, dispatch, end_lease, make_due
from tests.support.people import People
from tests.support.worker import FakeWorker


async def test_silent_worker_is_replaced(
    people: People,
    worker: FakeWorker,
    dispatcher: Dispatcher,
    database: Database,
    settings: Settings,
) -> None:
    """A job whose lease ended runs again elsewhere; what the first attempt left is not shown."""
    ada = await people.make()
    job = await ada.job()
    await worker.report()
    zombie = await worker.start(await dispatch(database, dispatcher, job["id"]))
    await worker.upload(
        zombie, b"{}", kind="manifest", name="m.json", media_type="application/json"
    )
    await end_lease(database, zombie.attempt_id)

    assert await rescue_lost_attempts(database, settings) == 1
    await make_due(database, job["id"])
    winner = await worker.start(await dispatch(database, dispatcher, job["id"]))
    late = await worker.call(zombie, "heartbeat", {})
    await worker.succeed(winner)

    assert (late.status_code, late.json()["code"]) == (409, "ATTEMPT_SUPERSEDED")
    assert winner.attempt == 2
    listed = (await ada.client.get(f"/api/v1/jobs/{job['id']}/artifacts")).json()["items"]
    assert [item["kind"] for item in listed] == ["input", "model_3d"]
    assert str(winner.attempt_id) in listed[1]["url"]


async def test_live_leases_are_left_alone(
    people: People,
    worker: FakeWorker,
    dispatcher: Dispatcher,
    database: Database,
    settings: Settings,
) -> None:
    """An attempt within its lease is nobody's business."""
    ada = await people.make()
    job = await ada.job()
    await worker.report()
    await worker.start(await dispatch(database, dispatcher, job["id"]))

    assert await rescue_lost_attempts(database, settings) == 0
    assert (await ada.get(job["id"]))["status"] == "RUNNING"


async def test_three_lost_workers_fail_the_job(
    people: People,
    worker: FakeWorker,
    dispatcher: Dispatcher,
    database: Database,
    settings: Settings,
) -> None:
    """A job that takes three workers down with it has FAILED with WORKER_LOST."""
    ada = await people.make()
    job = await ada.job()
    await worker.report()
    for _ in range(3):
        spec = await worker.start(await dispatch(database, dispatcher, job["id"]))
        await end_lease(database, spec.attempt_id)
        await rescue_lost_attempts(database, settings)
        if (await ada.get(job["id"]))["status"] == "QUEUED":
            await make_due(database, job["id"])

    ended = await ada.get(job["id"])
    assert ended["status"] == "FAILED"
    assert ended["error"]["code"] == "WORKER_LOST"
    assert [a.status for a in await attempts_of(database, job["id"])] == ["LOST"] * 3
    retried = await ada.client.post(f"/api/v1/jobs/{job['id']}/retry")
    assert (retried.json()["status"], retried.json()["attempt"]) == ("QUEUED", 0)


async def test_lost_worker_of_a_job_to_be_cancelled(
    people: People,
    worker: FakeWorker,
    dispatcher: Dispatcher,
    database: Database,
    settings: Settings,
) -> None:
    """A job that was to be cancelled when its worker vanished ends as CANCELLED."""
    ada = await people.make()
    job = await ada.job()
    await worker.report()
    spec = await worker.start(await dispatch(database, dispatcher, job["id"]))
    await ada.client.post(f"/api/v1/jobs/{job['id']}/cancel")
    await end_lease(database, spec.attempt_id)

    await rescue_lost_attempts(database, settings)

    assert (await ada.get(job["id"]))["status"] == "CANCELLED"


async def test_heartbeats_end_at_the_deadline(
    people: People,
    worker: FakeWorker,
    dispatcher: Dispatcher,
    database: Database,
    settings: Settings,
) -> None:
    """A worker that heartbeats for ever cannot hold a job beyond the model's time limit."""
    ada = await people.make()
    job = await ada.job()
    await worker.report()
    spec = await worker.start(await dispatch(database, dispatcher, job["id"]))
    async with database.transaction() as session:
        await session.execute(text("UPDATE attempts SET deadline_at = now() - interval '1 s'"))
    await end_lease(database, spec.attempt_id)

    await worker.call(spec, "heartbeat", {})
    await rescue_lost_attempts(database, settings)

    lost = (await attempts_of(database, job["id"]))[0]
    assert (lost.status, lost.error_code) == ("LOST", "TIME_LIMIT_EXCEEDED")


async def test_silence_while_the_api_is_away_is_no_loss(
    people: People,
    worker: FakeWorker,
    dispatcher: Dispatcher,
    database: Database,
    settings: Settings,
) -> None:
    """Without an API nobody can say that they live: leases wait, and begin anew when it is back."""
    ada = await people.make()
    job = await ada.job()
    await worker.report()
    spec = await worker.start(await dispatch(database, dispatcher, job["id"]))
    await end_lease(database, spec.attempt_id)
    async with database.transaction() as session:
        await session.execute(text("UPDATE api_processes SET seen_at = now() - interval '1 min'"))

    assert await rescue_lost_attempts(database, settings) == 0
    async with database.transaction() as session:
        assert await beat(session, settings, new_id()) == 1

    assert await rescue_lost_attempts(database, settings) == 0
    assert (await worker.succeed(spec)).json()["job_status"] == "SUCCEEDED"


async def test_one_broken_attempt_does_not_hold_up_the_others(
    people: People,
    worker: FakeWorker,
    dispatcher: Dispatcher,
    database: Database,
    settings: Settings,
) -> None:
    """An attempt that cannot be taken over is passed over."""
    ada = await people.make()
    first, second = await ada.job(), await ada.job()
    await worker.report()
    for job in (first, second):
        spec = await worker.start(await dispatch(database, dispatcher, job["id"]))
        await end_lease(database, spec.attempt_id)
    async with database.transaction() as session:
        await session.execute(
            text(
                "ALTER TABLE job_events ADD CONSTRAINT poison "
                f"CHECK (job_id <> '{first['id']}') NOT VALID"
            )
        )
    try:
        assert await rescue_lost_attempts(database, settings) == 1
    finally:
        async with database.transaction() as session:
            await session.execute(text("ALTER TABLE job_events DROP CONSTRAINT poison"))

    assert (await ada.get(second["id"]))["status"] == "QUEUED"
    assert await rescue_lost_attempts(database, settings) == 1
