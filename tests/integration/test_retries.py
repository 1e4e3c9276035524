"""What becomes of a job whose attempt has ended without success."""

import asyncio

from sqlalchemy import text

from app.db.session import Database
from app.queueing.dispatcher import Dispatcher
from tests.support.jobs import attempts_of, dispatch, make_due, set_job
from tests.support.people import People
from tests.support.worker import FakeWorker


async def test_released_attempt_counts_no_failure(
    people: People, worker: FakeWorker, database: Database, dispatcher: Dispatcher
) -> None:
    """A worker that hands an attempt back costs the job nothing but a moment."""
    ada = await people.make()
    job = await ada.job()
    await worker.report()
    spec = await worker.start(await dispatch(database, dispatcher, job["id"]))

    answer = await worker.call(spec, "finish", {"outcome": "released", "reason": "draining"})

    assert answer.json()["job_status"] == "QUEUED"
    assert await dispatcher.run_once() == 0
    await make_due(database, job["id"])
    again = await worker.start(await dispatch(database, dispatcher, job["id"]))
    assert (spec.attempt, again.attempt) == (1, 1)
    assert [a.status for a in await attempts_of(database, job["id"])] == ["RELEASED", "RUNNING"]


async def test_retries_wait_and_then_end(
    people: People, worker: FakeWorker, database: Database, dispatcher: Dispatcher
) -> None:
    """A failing job waits 30 s, then 60 s, then has FAILED with its attempts spent."""
    ada = await people.make()
    job = await ada.job()
    await worker.report()
    waits = []
    for _ in range(3):
        spec = await worker.start(await dispatch(database, dispatcher, job["id"]))
        answer = await worker.fail(spec)
        if answer.json()["job_status"] == "QUEUED":
            assert await dispatcher.run_once() == 0
            async with database.transaction() as session:
                wait = await session.execute(
                    text(
                        "SELECT extract(epoch FROM available_at - ("
                        "SELECT max(finished_at) FROM attempts WHERE job_id = jobs.id)) FROM jobs"
                    )
                )
                waits.append(float(wait.scalar_one()))
            await make_due(database, job["id"])

    ended = await ada.get(job["id"])
    assert waits == [30, 60]
    assert (ended["status"], ended["attempt"]) == ("FAILED", 3)
    assert ended["error"] == {
        "code": "PIPELINE_ERROR",
        "message": "it broke",
        "permanent": False,
    }


async def test_permanent_failure_is_not_retried(
    people: People, worker: FakeWorker, database: Database, dispatcher: Dispatcher
) -> None:
    """A failure that the same input would bring again ends the job at once."""
    ada = await people.make()
    job = await ada.job()
    await worker.report()
    spec = await worker.start(await dispatch(database, dispatcher, job["id"]))

    await worker.fail(spec, permanent=True)

    ended = await ada.get(job["id"])
    assert (ended["status"], ended["attempt"]) == ("FAILED", 1)


async def test_two_queues_of_one_user_do_not_deadlock(
    people: People, worker: FakeWorker, database: Database, dispatcher: Dispatcher
) -> None:
    """Jobs of one user on two queues can be put back at the same moment, many times over."""
    ada = await people.make()
    image = await ada.upload()
    for _ in range(5):
        jobs = [
            await ada.job(model_id=model, input_params={"image_path": image})
            for model in ("inflate-v1", "sf3d-v1")
        ]
        await worker.report()
        await worker.report(name="gpu", queue="gpu", pipelines=("sf3d",))
        specs = [
            await worker.start(await dispatch(database, dispatcher, job["id"])) for job in jobs
        ]
        answers = await asyncio.gather(*(worker.fail(spec) for spec in specs))
        assert [answer.json()["job_status"] for answer in answers] == ["QUEUED", "QUEUED"]
        for job in jobs:
            await ada.client.post(f"/api/v1/jobs/{job['id']}/cancel")


async def test_a_job_that_everybody_hands_back_ends(
    people: People, worker: FakeWorker, database: Database, dispatcher: Dispatcher
) -> None:
    """Ten releases in a row count as one failure, so that no job goes round for ever."""
    ada = await people.make()
    job = await ada.job()
    await worker.report()
    await set_job(database, job["id"], max_attempts=1)
    for _ in range(10):
        await make_due(database, job["id"])
        spec = await worker.start(await dispatch(database, dispatcher, job["id"]))
        await worker.call(spec, "finish", {"outcome": "released", "reason": "no GPU"})

    ended = await ada.get(job["id"])
    assert (ended["status"], ended["error"]["code"]) == ("FAILED", "NO_CAPABLE_WORKER")
    assert "no GPU" in ended["error"]["message"]
