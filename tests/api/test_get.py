"""Following one job: entity tags, previews and waiting."""

import asyncio

import httpx
import pytest
from fastapi import FastAPI

from app.db.session import Database
from app.db.signals import Channel
from tests.support.people import JOBS, People, png_bytes
from tests.support.problems import assert_problem
from tests.support.runs import Stage


async def test_queued_job(people: People) -> None:
    """A waiting job has a place in the queue and nothing that only a run could tell."""
    person = await people.make()
    await person.job()
    job = await person.get((await person.job())["id"])
    assert (job["status"], job["queue_position"], job["eta_seconds"]) == ("QUEUED", 2, None)
    assert job["started_at"] is job["completed_at"] is job["expires_at"] is job["error"] is None
    assert (job["progress_percent"], job["previews"]) == (0, [])


async def test_running_job(people: People, stage: Stage) -> None:
    """A running job shows its attempt, progress, stage and message."""
    person = await people.make()
    job, spec = await stage.running(person)
    progress = {"percent": 42.25, "stage": "texture", "message": "Filling the back"}
    await stage.worker.call(spec, "heartbeat", {"progress": progress})
    job = await person.get(job["id"])
    assert (job["status"], job["attempt"], job["queue_position"]) == ("RUNNING", 1, None)
    assert (job["progress_percent"], job["stage"]) == (42.2, "texture")
    assert job["message"] == "Filling the back"
    assert job["started_at"].endswith("Z")


async def test_failed_job(people: People, stage: Stage) -> None:
    """A failed job says why, and whether trying again would help."""
    job = await stage.failed(await people.make())
    assert job["status"] == "FAILED"
    assert job["error"] == {"code": "PIPELINE_ERROR", "message": "it broke", "permanent": True}
    assert job["completed_at"].endswith("Z")
    assert job["expires_at"] > job["completed_at"]
    assert job["attempt"] == 1


async def test_succeeded_job(people: People, stage: Stage) -> None:
    """A job that succeeded is at 100 percent and says when its files will go."""
    job = await stage.succeeded(await people.make())
    assert (job["status"], job["progress_percent"], job["error"]) == ("SUCCEEDED", 100, None)
    assert job["expires_at"] > job["completed_at"] >= job["started_at"] >= job["created_at"]


async def test_previews_appear_while_it_runs(people: People, stage: Stage) -> None:
    """A committed preview can be seen, and fetched, while the job still runs."""
    person = await people.make()
    job, spec = await stage.running(person)
    picture = png_bytes(32)
    await stage.worker.upload(
        spec, picture, kind="preview", name="front.png", media_type="image/png"
    )
    [preview] = (await person.get(job["id"]))["previews"]
    assert (preview["name"], preview["media_type"]) == ("front.png", "image/png")
    async with httpx.AsyncClient(trust_env=False) as storage:
        assert (await storage.get(preview["url"])).content == picture


async def test_not_modified(people: People) -> None:
    """An unchanged job is answered with 304, no body and the same tag."""
    person = await people.make()
    url = f"{JOBS}/{(await person.job())['id']}"
    first = await person.client.get(url)
    tag = first.headers["etag"]
    for header in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = await person.client.get(url, headers={"If-None-Match": header})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag
    assert (await person.client.get(url, headers={"If-None-Match": '"other"'})).json() == (
        first.json()
    )


async def test_modified(people: People) -> None:
    """After a change the old tag matches no more."""
    person = await people.make()
    url = f"{JOBS}/{(await person.job())['id']}"
    tag = (await person.client.get(url)).headers["etag"]
    await person.client.post(f"{url}/cancel")
    answer = await person.client.get(url, headers={"If-None-Match": tag})
    assert answer.status_code == 200
    assert answer.headers["etag"] != tag


async def test_not_modified_with_previews(people: People, stage: Stage) -> None:
    """Presigned URLs of previews do not change the tag from one look to the next."""
    person = await people.make()
    job, spec = await stage.running(person)
    await stage.worker.upload(
        spec, png_bytes(), kind="preview", name="front.png", media_type="image/png"
    )
    url = f"{JOBS}/{job['id']}"
    statuses = []
    for _ in range(2):  # once more, should the first fall on the turn of a signing window
        tag = (await person.client.get(url)).headers["etag"]
        answer = await person.client.get(url, headers={"If-None-Match": tag})
        statuses.append(answer.status_code)
    assert 304 in statuses


async def _is_watched(database: Database, job_id: str) -> None:
    for _ in range(3000):
        if (Channel.JOB_CHANGED, job_id) in database.signals._waiting:
            return
        await asyncio.sleep(0.01)
    pytest.fail("nobody waits for the job")


async def test_wait_ends_with_a_change_of_status(people: People, database: Database) -> None:
    """An answer that is held comes as soon as another request cancels the job."""
    person = await people.make()
    url = f"{JOBS}/{(await person.job())['id']}"
    async with asyncio.timeout(40):
        waiting = asyncio.create_task(person.client.get(url, headers={"Prefer": "wait=60"}))
        await _is_watched(database, url.rpartition("/")[2])
        await person.client.post(f"{url}/cancel")
        answer = await waiting
    assert answer.json()["status"] == "CANCELLED"
    assert answer.headers["preference-applied"] == "wait=60"


async def test_wait_ends_with_progress(people: People, stage: Stage) -> None:
    """With a tag the answer comes with the next change of any kind."""
    person = await people.make()
    job, spec = await stage.running(person)
    url = f"{JOBS}/{job['id']}"
    tag = (await person.client.get(url)).headers["etag"]
    async with asyncio.timeout(40):
        waiting = asyncio.create_task(
            person.client.get(url, headers={"Prefer": "wait=60", "If-None-Match": tag})
        )
        await _is_watched(stage.database, job["id"])
        await stage.worker.call(spec, "heartbeat", {"progress": {"percent": 7, "stage": "mesh"}})
        answer = await waiting
    assert (answer.status_code, answer.json()["stage"]) == (200, "mesh")


async def test_wait_is_over_for_a_job_that_has_ended(people: People) -> None:
    """A job that has ended is answered at once, whatever the client would wait."""
    person = await people.make()
    url = f"{JOBS}/{(await person.job())['id']}"
    await person.client.post(f"{url}/cancel")
    async with asyncio.timeout(40):
        answer = await person.client.get(url, headers={"Prefer": "wait=60"})
        tag = answer.headers["etag"]
        same = await person.client.get(url, headers={"Prefer": "wait=60", "If-None-Match": tag})
    assert (answer.status_code, same.status_code) == (200, 304)


async def test_wait_without_a_change(people: People) -> None:
    """When nothing changes, the wait ends with the job as it is, or 304 for a tag."""
    person = await people.make()
    url = f"{JOBS}/{(await person.job())['id']}"
    answer = await person.client.get(url, headers={"Prefer": "respond-async, wait=1"})
    assert (answer.status_code, answer.json()["status"]) == (200, "QUEUED")
    assert answer.headers["preference-applied"] == "wait=1"
    assert "preference-applied" not in (await person.client.get(url)).headers


async def test_longest_wait(people: People) -> None:
    """A longer wait than a minute is cut to one, and the answer says so."""
    person = await people.make()
    url = f"{JOBS}/{(await person.job())['id']}"
    await person.client.post(f"{url}/cancel")
    answer = await person.client.get(url, headers={"Prefer": "wait=3600"})
    assert answer.headers["preference-applied"] == "wait=60"


async def test_waiting_ends_with_the_right_to_it(
    people: People, http: httpx.AsyncClient, app: FastAPI
) -> None:
    """A key that is revoked while its request waits for news is refused with what it waited for."""
    person = await people.make()
    job = await person.job(model_id="dreamfusion-sd", input_params={}, prompt="a teapot")
    key = await person.another_key()
    headers = {"x-api-key": key["key"], "prefer": "wait=60"}
    async with asyncio.timeout(40):
        waiting = asyncio.create_task(http.get(f"{JOBS}/{job['id']}", headers=headers))
        while not app.state.watchers._waiting:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert (await person.client.delete(f"/api/v1/keys/{key['id']}")).status_code == 204
        assert_problem(await waiting, 401, "NOT_AUTHENTICATED")
