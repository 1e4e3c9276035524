"""Videos as the replaced systems showed them: views over jobs, with the same rules."""

from typing import Any
from uuid import uuid4

import httpx
import pytest

from app.queueing.retention import delete_unused_objects
from app.storage.base import ObjectStore
from contract.attempts import JobSpec
from tests.support.jobs import dispatch, make_due
from tests.support.people import JOBS, People, Person
from tests.support.problems import assert_problem
from tests.support.runs import Stage
from tests.support.storage import stored_keys
from tests.support.worker import MP4, ZIP

VIDEOS = "/api/v1/videos"
METRICS = {"frame_count": 61.0, "zip_size_bytes": 604.0, "processing_time_seconds": 2.8437}


@pytest.fixture
async def ada(people: People) -> Person:
    return await people.make()


async def _upload(person: Person, name: str = "talk.mp4") -> str:
    answer = await person.client.post(f"{VIDEOS}/upload", files={"files": (name, MP4)})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["job_id"])


async def _start(stage: Stage, job_id: str) -> JobSpec:
    await stage.worker.report(pipelines=("video-frames",))
    return await stage.worker.start(await dispatch(stage.database, stage.dispatcher, job_id))


async def _succeed(stage: Stage, spec: JobSpec, metrics: dict[str, float] = METRICS) -> None:
    frames = await stage.worker.upload(
        spec, ZIP, kind="frames_zip", name="frames.zip", media_type="application/zip"
    )
    report = {"outcome": "succeeded", "artifact_ids": [frames], "metrics": metrics}
    answer = await stage.worker.call(spec, "finish", report)
    assert answer.status_code == 200, answer.text


async def _both(person: Person, job_id: str) -> dict[str, Any]:
    """The video as one, and the same by its job's status."""
    video = (await person.client.get(f"{VIDEOS}/{job_id}")).json()
    state = (await person.client.get(f"{JOBS}/{job_id}/status")).json()
    assert {name: video[name] for name in state} == state
    return dict(video)


async def test_a_video_on_its_way(ada: Person, stage: Stage) -> None:
    """From upload to download the same fields say more and more."""
    job_id = await _upload(ada, "Ü talk.mp4")
    video = await _both(ada, job_id)
    assert (video["id"], video["job_id"], video["status"]) == (job_id, job_id, "QUEUED")
    assert (video["filename"], video["size_bytes"]) == ("U_talk.mp4", len(MP4))
    unknown = ("frame_count", "zip_size_bytes", "processing_time_seconds", "error_code")
    assert [video[name] for name in unknown] == [None] * 4
    assert (video["retry_count"], video["download_available"]) == (0, False)

    spec = await _start(stage, job_id)
    await stage.worker.call(spec, "heartbeat", {"progress": {"percent": 40, "stage": "decode"}})
    video = await _both(ada, job_id)
    assert (video["status"], video["progress_percent"], video["stage"]) == ("RUNNING", 40, "decode")
    assert video["download_available"] is False

    await _succeed(stage, spec)
    video = await _both(ada, job_id)
    assert video["status"] == "SUCCEEDED"
    assert (video["frame_count"], video["zip_size_bytes"]) == (61, 604)
    assert video["processing_time_seconds"] == 2.8437
    assert video["download_available"] is True
    answer = await ada.client.get(f"{JOBS}/{job_id}/download")
    async with httpx.AsyncClient(trust_env=False) as storage:
        assert (await storage.get(answer.json()["download_url"])).content == ZIP


async def test_a_pipeline_that_measures_nothing(ada: Person, stage: Stage) -> None:
    """Without metrics the time is that of the attempt, and what is not known is not made up."""
    job_id = await _upload(ada)
    await _succeed(stage, await _start(stage, job_id), metrics={})
    video = await _both(ada, job_id)
    assert video["processing_time_seconds"] > 0
    assert (video["frame_count"], video["zip_size_bytes"]) == (None, None)


async def test_a_video_that_fails(ada: Person, stage: Stage) -> None:
    """A failure has its code and message, and a retry counts."""
    job_id = await _upload(ada)
    spec = await _start(stage, job_id)
    assert (await stage.worker.fail(spec)).status_code == 200
    video = await _both(ada, job_id)
    assert (video["status"], video["retry_count"]) == ("QUEUED", 0)
    await make_due(stage.database, job_id)
    spec = await _start(stage, job_id)
    assert (await _both(ada, job_id))["retry_count"] == 1
    assert (await stage.worker.fail(spec, permanent=True)).status_code == 200
    video = await _both(ada, job_id)
    assert (video["status"], video["retry_count"]) == ("FAILED", 1)
    assert (video["error_code"], video["error_message"]) == ("PIPELINE_ERROR", "it broke")
    assert video["download_available"] is False


async def test_list(ada: Person, people: People) -> None:
    """Only jobs on videos are listed, newest first, in pages, and by the role's reach."""
    await ada.job()
    ids = [await _upload(ada, f"{number}.mp4") for number in range(3)]
    for path in (VIDEOS, f"{VIDEOS}/"):
        page = (await ada.client.get(f"{path}?limit=2")).json()
        assert [video["filename"] for video in page["items"]] == ["2.mp4", "1.mp4"]
        rest = (await ada.client.get(f"{path}?limit=2&cursor={page['next_cursor']}")).json()
        assert [video["id"] for video in rest["items"]] == ids[:1]
        assert rest["next_cursor"] is None
    assert (await ada.client.get(f"{VIDEOS}?status=SUCCEEDED")).json()["items"] == []
    assert (await ada.client.get(f"{VIDEOS}?model_id=inflate-v1")).json()["items"] == []
    stranger = await people.make(organisation="Globex")
    assert (await stranger.client.get(VIDEOS)).json()["items"] == []


@pytest.mark.parametrize("query", ["cursor=x", "limit=0", "status=DONE", "colour=red"])
async def test_bad_queries(ada: Person, query: str) -> None:
    """Queries are checked as those of jobs are."""
    assert_problem(await ada.client.get(f"{VIDEOS}?{query}"), 422, "INVALID_REQUEST")


async def test_what_is_no_video(ada: Person) -> None:
    """A job without a video is none, and neither is one that never was."""
    job = await ada.job()
    for video_id in (job["id"], uuid4()):
        for method in ("GET", "DELETE"):
            answer = await ada.client.request(method, f"{VIDEOS}/{video_id}")
            assert_problem(answer, 404, "VIDEO_NOT_FOUND")
    assert (await ada.get(job["id"]))["status"] == "QUEUED"
    assert_problem(await ada.client.get(f"{VIDEOS}/x"), 422, "INVALID_REQUEST")
    assert_problem(await ada.client.get(f"{JOBS}/{uuid4()}/status"), 404, "JOB_NOT_FOUND")


async def test_status_of_any_job(ada: Person, stage: Stage) -> None:
    """The status of a job that is about no video has the same fields."""
    job = await stage.succeeded(ada)
    state = (await ada.client.get(f"{JOBS}/{job['id']}/status")).json()
    assert (state["status"], state["download_available"]) == ("SUCCEEDED", True)
    assert state["processing_time_seconds"] > 0
    assert state["frame_count"] is None


async def test_delete_while_it_waits(ada: Person) -> None:
    """A video that waits is cancelled; deleted again, its files go."""
    job_id = await _upload(ada)
    answer = await ada.client.delete(f"{VIDEOS}/{job_id}")
    assert (answer.status_code, answer.json()["status"]) == (200, "CANCELLED")
    answer = await ada.client.delete(f"{VIDEOS}/{job_id}")
    assert (answer.status_code, answer.json()["status"]) == (200, "EXPIRED")


async def test_delete_while_it_runs(ada: Person, stage: Stage) -> None:
    """A running one is asked to stop, and its worker hears it."""
    job_id = await _upload(ada)
    spec = await _start(stage, job_id)
    for _ in range(2):
        answer = await ada.client.delete(f"{VIDEOS}/{job_id}")
        assert (answer.status_code, answer.json()["status"]) == (200, "RUNNING")
    beat = await stage.worker.call(spec, "heartbeat", {})
    assert beat.json()["cancel_requested"] is True


async def test_delete_what_is_done(ada: Person, stage: Stage, store: ObjectStore) -> None:
    """A finished one is gone at once for its users, and soon from storage."""
    before = await stored_keys(store)
    job_id = await _upload(ada)
    spec = await _start(stage, job_id)
    event = {"sequence": 1, "type": "ocr.text", "data": {"text": "secret"}}
    await stage.worker.call(spec, "heartbeat", {"events": [event]})
    await _succeed(stage, spec)
    for _ in range(2):
        answer = await ada.client.delete(f"{VIDEOS}/{job_id}")
        assert (answer.status_code, answer.json()["status"]) == (200, "EXPIRED")
        assert answer.json()["download_available"] is False
    assert_problem(await ada.client.get(f"{JOBS}/{job_id}/download"), 410, "JOB_EXPIRED")
    events = await ada.events(job_id)
    assert "ocr.text" not in events
    assert events.count("job.expired") == 1
    assert await delete_unused_objects(stage.database, store) == 2
    assert await stored_keys(store) == before


async def test_a_colleague_deletes_nothing(ada: Person, people: People) -> None:
    """Whose role does not reach a video neither sees nor deletes it."""
    job_id = await _upload(ada)
    colleague = await people.make()
    for method in ("GET", "DELETE"):
        answer = await colleague.client.request(method, f"{VIDEOS}/{job_id}")
        assert_problem(answer, 403, "FORBIDDEN")
    assert (await ada.get(job_id))["status"] == "QUEUED"
