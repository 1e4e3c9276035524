"""Claiming an attempt: one worker gets it, whatever arrives twice or too late."""

import asyncio
from uuid import uuid4

from app.db.session import Database
from app.queueing.dispatcher import Dispatcher
from tests.support.jobs import dispatch
from tests.support.people import People
from tests.support.worker import FakeWorker


async def test_only_one_of_many_claims_is_granted(
    people: People, worker: FakeWorker, dispatcher: Dispatcher, database: Database
) -> None:
    """Of ten workers that claim one attempt at once, one gets it and nine are superseded."""
    ada = await people.make()
    job = await ada.job()
    await worker.report()
    attempt_id = await dispatch(database, dispatcher, job["id"])

    answers = await asyncio.gather(*(worker.claim(attempt_id) for _ in range(10)))

    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 9
    assert {a.json()["code"] for a in answers if a.status_code == 409} == {"ATTEMPT_SUPERSEDED"}
    assert (await ada.events(job["id"])).count("job.started") == 1


async def test_repeated_claim_answers_the_same(
    people: People, worker: FakeWorker, dispatcher: Dispatcher, database: Database
) -> None:
    """A claim whose answer was lost can be repeated: the same token, and a full lease again."""
    ada = await people.make()
    job = await ada.job()
    await worker.report()
    attempt_id = await dispatch(database, dispatcher, job["id"])
    claim_id = uuid4()

    answers = await asyncio.gather(*(worker.claim(attempt_id, claim_id) for _ in range(3)))

    specs = [answer.json() for answer in answers]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert len({spec["attempt_token"] for spec in specs}) == 1
    assert (await ada.events(job["id"])).count("job.started") == 1
    assert specs[0]["params"]["texture_resolution"] == 1024
    assert specs[0]["inputs"][0]["parameter"] == "image_path"


async def test_claim_of_a_cancelled_job_is_gone(
    people: People, worker: FakeWorker, dispatcher: Dispatcher, database: Database
) -> None:
    """A task that was popped after its job was cancelled is answered 410."""
    ada = await people.make()
    job = await ada.job()
    await worker.report()
    attempt_id = await dispatch(database, dispatcher, job["id"])
    await ada.client.post(f"/api/v1/jobs/{job['id']}/cancel")

    answer = await worker.claim(attempt_id)

    assert (answer.status_code, answer.json()["code"]) == (410, "ATTEMPT_GONE")


async def test_claim_of_an_unknown_attempt_is_not_found(worker: FakeWorker) -> None:
    """An attempt that never was is answered 404."""
    answer = await worker.claim(uuid4())

    assert (answer.status_code, answer.json()["code"]) == (404, "ATTEMPT_NOT_FOUND")
