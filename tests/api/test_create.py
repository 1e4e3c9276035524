"""Creating jobs: ticket, upload, job."""

import hashlib
from uuid import UUID

import httpx
import pytest
from sqlalchemy import select

from app.artifacts.tables import Artifact
from app.config import Settings
from app.db.session import Database
from app.jobs.tables import Job
from tests.support.apps import DEAD_PORT, another_app
from tests.support.people import JOBS, People, png_bytes
from tests.support.rows import count_rows


async def test_ticket(people: People) -> None:
    """A ticket has a URL, a key made by the server, its life time and the header to send."""
    person = await people.make()
    answer = await person.client.post(
        f"{JOBS}/upload-ticket", json={"filename": "My teapot.png", "content_type": "image/png"}
    )
    assert answer.status_code == 200
    ticket = answer.json()
    prefix, user, ticket_id, name = ticket["object_name"].split("/")
    assert (prefix, user, name) == ("uploads", str(person.id), "My_teapot.png")
    assert UUID(ticket_id).version == 7
    assert ticket["expires_in"] == 900
    assert ticket["headers"] == {"Content-Type": "image/png"}
    assert ticket["object_name"] in ticket["upload_url"]


async def test_ticket_to_job(people: People, database: Database) -> None:
    """A ticket, a PUT and a create make a queued job with defaults, input artifact and event."""
    person = await people.make()
    picture = png_bytes()
    object_name = await person.upload(picture, with_promises=True)
    answer = await person.submit(input_params={"image_path": object_name, "relief": 0.5})
    assert answer.status_code == 201
    job = answer.json()
    assert answer.headers["location"] == f"/api/v1/jobs/{job['id']}"
    assert "idempotency-replayed" not in answer.headers
    assert UUID(job["id"]).version == 7
    assert job["status"] == "QUEUED"
    assert job["model_id"] == "inflate-v1"
    assert job["requested_by"] == str(person.id)
    assert (job["attempt"], job["max_attempts"]) == (0, 3)
    assert job["created_at"].endswith("Z")
    assert job["input_params"] == {
        "image_path": object_name,
        "points": [],
        "background_points": [],
        "layers": [],
        "flat_base": 0.0,
        "profile": "auto",
        "symmetry": "none",
        "back": "auto",
        "formats": ["glb"],
        "texture_resolution": 1024,
        "foreground_ratio": 0.85,
        "vertex_count": -1,
        "thickness": 1.0,
        "relief": 0.5,
        "seed": 0,
    }
    async with database.transaction() as session:
        artifact = (await session.execute(select(Artifact))).scalar_one()
    assert str(artifact.job_id) == job["id"]
    assert (artifact.kind, artifact.parameter) == ("input", "image_path")
    assert (artifact.media_type, artifact.size_bytes) == ("image/png", len(picture))
    assert artifact.sha256 == hashlib.sha256(picture).hexdigest()
    assert await person.events(job["id"]) == ["job.created"]


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8"])
async def test_content_types(people: People, content_type: str) -> None:
    """JSON may be declared with or without its charset."""
    person = await people.make()
    answer = await person.client.post(
        f"{JOBS}/validate",
        content=b'{"model_id": "dreamfusion-sd", "prompt": "a teapot"}',
        headers={"content-type": content_type},
    )
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("path", [JOBS, f"{JOBS}/"])
async def test_slash_at_the_end(people: People, path: str) -> None:
    """Collections answer with and without the slash, without a redirect."""
    person = await people.make()
    body = {"model_id": "dreamfusion-sd", "prompt": "a teapot"}
    assert (await person.client.post(path, json=body)).status_code == 201
    listed = await person.client.get(path)
    assert listed.status_code == 200
    assert len(listed.json()["items"]) == 1


@pytest.mark.parametrize("path", ["/api/v1/models", "/api/v1/models/"])
async def test_slash_at_the_end_of_models(people: People, path: str) -> None:
    """The catalog answers with and without the slash too."""
    assert (await (await people.make()).client.get(path)).status_code == 200


async def test_prompt_is_kept(people: People) -> None:
    """A prompt is kept without the blanks around it, in whatever script."""
    person = await people.make()
    job = await person.job(model_id="dreamfusion-sd", input_params={}, prompt="  茶壺 🫖  ")
    assert job["prompt"] == "茶壺 🫖"
    assert (await person.get(job["id"]))["prompt"] == "茶壺 🫖"


async def test_one_upload_for_many_jobs(people: People) -> None:
    """An upload may be used by more than one job."""
    person = await people.make()
    object_name = await person.upload()
    first = await person.job(input_params={"image_path": object_name})
    second = await person.job(input_params={"image_path": object_name})
    assert first["id"] != second["id"]


async def test_trace_and_request_are_kept(people: People, database: Database) -> None:
    """The request's id and trace context are kept on the job, for its worker."""
    person = await people.make()
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    job = await person.job(headers={"x-request-id": "my-request", "traceparent": trace})
    async with database.transaction() as session:
        row = await session.get_one(Job, UUID(job["id"]))
    assert (row.request_id, row.traceparent) == ("my-request", trace)


async def test_redis_is_never_touched(
    people: People, settings: Settings, database: Database
) -> None:
    """A job is created though Redis is away: Postgres is all it takes."""
    person = await people.make()
    body = {"model_id": "inflate-v1", "input_params": {"image_path": await person.upload()}}
    dead = f"redis://127.0.0.1:{DEAD_PORT}/0"
    async with another_app(settings, redis_url=dead) as client:
        readiness = await client.get("/readyz")
        answer = await client.post(f"{JOBS}/", json=body, headers={"x-api-key": person.key})
    assert readiness.json()["status"] == "degraded"
    assert answer.status_code == 201
    assert (await count_rows(database))["jobs"] == 1


async def test_upload_goes_to_storage_alone(people: People) -> None:
    """The upload URL is storage's own, and works without any key of ours."""
    person = await people.make()
    answer = await person.client.post(
        f"{JOBS}/upload-ticket", json={"filename": "a.png", "content_type": "image/png"}
    )
    url = httpx.URL(answer.json()["upload_url"])
    assert url.port != person.client.base_url.port
    assert "X-Amz-Signature" in url.params
