"""Jobs whose model nobody serves, commands to workers, and what a report names."""

import asyncio
import json

import pytest
from redis import Redis

from app.db.session import Database
from app.queueing.dispatcher import Dispatcher
from tests.support.jobs import dispatch
from tests.support.people import JOBS, People
from tests.support.problems import assert_problem
from tests.support.worker import GLB, FakeWorker


async def test_job_without_a_worker_is_queued_with_a_warning(
    people: People, worker: FakeWorker
) -> None:
    """A job that no live worker serves is accepted with a warning, which goes when one comes."""
    ada = await people.make()
    job = await ada.job()
    assert "inflate-v1" in job["warning"]
    assert (await ada.get(job["id"]))["warning"] == job["warning"]

    await worker.report()
    assert (await ada.get(job["id"]))["warning"] is None
    assert (await ada.job())["warning"] is None


async def test_require_worker_refuses_instead(people: People, worker: FakeWorker) -> None:
    """With `require_worker` such a job is refused and not written."""
    ada = await people.make()
    body = {"model_id": "inflate-v1", "input_params": {"image_path": await ada.upload()}}
    answer = await ada.client.post(f"{JOBS}/?require_worker=true", json=body)
    assert_problem(answer, 409, "NO_WORKER")
    assert (await ada.client.get(f"{JOBS}/")).json()["items"] == []

    await worker.report()
    answer = await ada.client.post(f"{JOBS}/?require_worker=true", json=body)
    assert answer.status_code == 201


async def test_cancel_sends_a_stop_command_to_the_worker(
    people: People,
    worker: FakeWorker,
    dispatcher: Dispatcher,
    database: Database,
    redis: Redis,
) -> None:
    """The worker that runs a cancelled job is told by RQ's own command channel, too."""
    ada = await people.make()
    job = await ada.job()
    await worker.report()
    spec = await worker.start(await dispatch(database, dispatcher, job["id"]))
    with redis.pubsub() as listening:
        listening.subscribe(f"rq:pubsub:{worker.name}")
        await asyncio.to_thread(listening.get_message, timeout=5)

        await ada.client.post(f"{JOBS}/{job['id']}/cancel")

        message = await asyncio.to_thread(listening.get_message, timeout=10)
    command = json.loads(message["data"])
    assert (command["command"], command["job_id"]) == ("stop-job", str(spec.attempt_id))


@pytest.mark.parametrize("reported", ["draft.glb", "model.glb"])
async def test_download_is_what_the_report_names(
    people: People,
    worker: FakeWorker,
    dispatcher: Dispatcher,
    database: Database,
    reported: str,
) -> None:
    """Of two committed models, `download` answers with the one that the report names."""
    ada = await people.make()
    job = await ada.job()
    await worker.report()
    spec = await worker.start(await dispatch(database, dispatcher, job["id"]))
    ids = {
        name: await worker.upload(spec, GLB + name.encode(), name=name)
        for name in ("draft.glb", "model.glb")
    }
    await worker.call(
        spec, "finish", {"outcome": "succeeded", "artifact_ids": [ids[reported]], "metrics": {}}
    )

    answer = await ada.client.get(f"{JOBS}/{job['id']}/download")

    assert f"/{reported}?" in answer.json()["download_url"]
