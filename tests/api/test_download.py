"""Downloading results and other files of a job."""

from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import func

from app.jobs.lifecycle import JobStatus
from tests.support.jobs import set_job
from tests.support.people import JOBS, People, png_bytes
from tests.support.problems import assert_problem
from tests.support.runs import Stage
from tests.support.worker import GLB, MP4, ZIP


async def _fetch(url: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as storage:
        return await storage.get(url)


async def test_download(people: People, stage: Stage) -> None:
    """The main artifact comes from storage, byte for byte, as a file with a speaking name."""
    person = await people.make()
    job = await stage.succeeded(person)
    answer = await person.client.get(f"{JOBS}/{job['id']}/download")
    assert answer.status_code == 200
    assert answer.json()["expires_in"] == 3600
    file = await _fetch(answer.json()["download_url"])
    assert (file.status_code, file.content) == (200, GLB)
    disposition = file.headers["content-disposition"]
    assert disposition.startswith("attachment")
    assert f"inflate-v1-{job['id'][-12:]}.glb" in disposition
    assert file.headers["content-type"] == "model/gltf-binary"


async def test_url_is_for_one_object(people: People, stage: Stage) -> None:
    """A presigned URL changed to another object is refused by storage."""
    person = await people.make()
    job = await stage.succeeded(person)
    url = (await person.client.get(f"{JOBS}/{job['id']}/download")).json()["download_url"]
    assert (await _fetch(url.replace("model.glb", "other.glb"))).status_code == 403
    assert (await _fetch(url.partition("?")[0])).is_client_error


@pytest.mark.parametrize("state", ["queued", "running", "failed", "cancelled"])
async def test_nothing_to_download(people: People, stage: Stage, state: str) -> None:
    """A job that has not succeeded has no download, and the answer names its state."""
    person = await people.make()
    match state:
        case "failed":
            job = await stage.failed(person)
        case "running":
            job, _ = await stage.running(person)
        case _:
            job = await person.job()
    if state == "cancelled":
        await person.client.post(f"{JOBS}/{job['id']}/cancel")
    answer = await person.client.get(f"{JOBS}/{job['id']}/download")
    assert state.upper() in assert_problem(answer, 400, "JOB_NOT_SUCCEEDED")["detail"]


async def test_result_without_its_file(people: People, stage: Stage) -> None:
    """A job that succeeded without the file that a download is of is answered with 404."""
    person = await people.make()
    job, _ = await stage.running(person)
    await set_job(
        stage.database, job["id"], status=JobStatus.SUCCEEDED, slot=None, completed_at=func.now()
    )
    answer = await person.client.get(f"{JOBS}/{job['id']}/download")
    assert_problem(answer, 404, "ARTIFACT_NOT_FOUND")


async def test_expired_job(people: People, stage: Stage) -> None:
    """After its retention every file of a job is gone, and each route says so."""
    person = await people.make()
    job = await stage.succeeded(person)
    await set_job(stage.database, job["id"], status=JobStatus.EXPIRED)
    for path in ("download", "artifacts", "artifacts/model_3d"):
        answer = await person.client.get(f"{JOBS}/{job['id']}/{path}")
        assert_problem(answer, 410, "JOB_EXPIRED")
    assert (await person.get(job["id"]))["previews"] == []


@pytest.mark.parametrize("path", ["download", "artifacts", "artifacts/preview", "events", ""])
async def test_no_such_job(admin: httpx.AsyncClient, path: str) -> None:
    """A job that never was is not found by any route."""
    answer = await admin.get(f"{JOBS}/{uuid4()}/{path}".rstrip("/"))
    assert_problem(answer, 404, "JOB_NOT_FOUND")


async def _with_files(people: People, stage: Stage) -> tuple[Any, dict[str, Any]]:
    person = await people.make()
    job, spec = await stage.running(person)
    await stage.worker.upload(
        spec, png_bytes(32), kind="preview", name="front.png", media_type="image/png"
    )
    await stage.worker.upload(
        spec, b"a line\n", kind="log", name="worker.log", media_type="text/plain"
    )
    await stage.worker.succeed(spec)
    return person, job


async def test_artifacts(people: People, stage: Stage) -> None:
    """Every file is listed with its kind, size, digest and a URL that fetches it."""
    person, job = await _with_files(people, stage)
    items = (await person.client.get(f"{JOBS}/{job['id']}/artifacts")).json()["items"]
    assert [(item["kind"], item["name"]) for item in items] == [
        ("input", "picture.png"),
        ("preview", "front.png"),
        ("log", "worker.log"),
        ("model_3d", "model.glb"),
    ]
    for item in items:
        file = await _fetch(item["url"])
        assert len(file.content) == item["size_bytes"]
        assert file.headers["content-type"].startswith(item["media_type"])
        assert item["expires_in"] == 3600
        assert item["created_at"].endswith("Z")
    assert all(len(item["sha256"]) == 64 for item in items[1:])


async def test_one_kind(people: People, stage: Stage) -> None:
    """One kind is answered like a download, as a file with a speaking name."""
    person, job = await _with_files(people, stage)
    answer = await person.client.get(f"{JOBS}/{job['id']}/artifacts/log")
    assert answer.status_code == 200
    file = await _fetch(answer.json()["download_url"])
    assert file.content == b"a line\n"
    assert f"inflate-v1-{job['id'][-12:]}.log" in file.headers["content-disposition"]


@pytest.mark.parametrize(
    ("kind", "name", "media_type", "content"),
    [
        ("video", "annotated.mp4", "video/mp4", MP4),
        ("analytics", "analytics.json", "application/json", b'{"zones": []}'),
        ("telemetry", "telemetry.jsonl", "application/x-ndjson", b'{"t": 0}\n{"t": 1}\n'),
        ("telemetry", "telemetry.csv", "text/csv", b"t,id\r\n0,1\r\n"),
        ("telemetry", "telemetry.parquet", "application/vnd.apache.parquet", b"PAR1PAR1"),
        ("frames_zip", "frames.zip", "application/zip", ZIP),
    ],
)
async def test_kinds_of_videos(
    people: People, stage: Stage, kind: str, name: str, media_type: str, content: bytes
) -> None:
    """Each kind of file that models for videos make is answered by its kind, byte for byte."""
    person = await people.make()
    job, spec = await stage.running(person)
    url = f"{JOBS}/{job['id']}/artifacts/{kind}"
    assert_problem(await person.client.get(url), 404, "ARTIFACT_NOT_FOUND")
    await stage.worker.upload(spec, content, kind=kind, name=name, media_type=media_type)
    answer = await person.client.get(url)
    assert answer.status_code == 200, answer.text
    assert answer.json()["expires_in"] == 3600
    file = await _fetch(answer.json()["download_url"])
    assert (file.status_code, file.content) == (200, content)
    assert file.headers["content-type"].startswith(media_type)
    extension = name.rpartition(".")[2]
    assert f"inflate-v1-{job['id'][-12:]}.{extension}" in file.headers["content-disposition"]


async def test_missing_kind(people: People, stage: Stage) -> None:
    """A kind that the job has not is answered with those it has."""
    person, job = await _with_files(people, stage)
    answer = await person.client.get(f"{JOBS}/{job['id']}/artifacts/video")
    body = assert_problem(answer, 404, "ARTIFACT_NOT_FOUND")
    assert "input, log, model_3d, preview" in body["detail"]


async def test_unknown_kind(admin: httpx.AsyncClient) -> None:
    """A kind that does not exist is not valid."""
    answer = await admin.get(f"{JOBS}/{uuid4()}/artifacts/hologram")
    assert_problem(answer, 422, "INVALID_REQUEST", pointer="/path/kind")


async def test_files_of_a_lost_attempt_are_hidden(people: People, stage: Stage) -> None:
    """What an earlier attempt had uploaded is no result of the job."""
    person, job = await _with_files(people, stage)
    await set_job(stage.database, job["id"], current_attempt_id=uuid4())
    items = (await person.client.get(f"{JOBS}/{job['id']}/artifacts")).json()["items"]
    assert [item["kind"] for item in items] == ["input"]
    assert (await person.get(job["id"]))["previews"] == []
