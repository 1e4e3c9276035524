"""Files that workers upload in parts while they are made: checked and fenced like all others."""

import hashlib
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import text

from app.queueing.rescuer import rescue_lost_attempts
from app.queueing.retention import abort_abandoned_uploads, delete_unused_objects
from app.storage.base import ObjectStore
from contract.attempts import JobSpec
from contract.streams import MOST_PARTS, PART_BYTES
from tests.support.jobs import end_lease
from tests.support.people import JOBS, People
from tests.support.problems import assert_problem
from tests.support.rows import nothing_written
from tests.support.runs import Stage
from tests.support.worker import GLB

FILE = {"kind": "model_3d", "name": "model.glb", "media_type": "model/gltf-binary"}
WHOLE = GLB + bytes(PART_BYTES)
"""Two parts."""


@pytest.fixture
async def spec(people: People, stage: Stage) -> JobSpec:
    """A running attempt."""
    return (await stage.running(await people.make()))[1]


async def begin(stage: Stage, spec: JobSpec, **changes: Any) -> str:
    answer = await stage.worker.call(spec, "streams", {**FILE, **changes})
    assert answer.status_code == 200, answer.text
    return answer.json()["ticket_id"]


async def put(url: str, part: bytes) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as storage:
        return await storage.put(url, content=part)


async def complete(stage: Stage, spec: JobSpec, body: dict[str, Any]) -> httpx.Response:
    return await stage.worker.call(spec, "streams/complete", body)


async def key_of(stage: Stage, ticket_id: str) -> str:
    async with stage.database.transaction() as session:
        return (
            await session.execute(
                text("SELECT object_key FROM upload_tickets WHERE id = :id"), {"id": ticket_id}
            )
        ).scalar_one()


async def test_streamed(stage: Stage, spec: JobSpec, store: ObjectStore) -> None:
    """Parts become one object that is checked and shown; a repeat writes nothing."""
    body = await stage.worker.stream(spec, WHOLE)
    first = await complete(stage, spec, body)
    assert first.status_code == 200, first.text
    assert first.json() == {
        "artifact_id": body["ticket_id"],
        "kind": "model_3d",
        "name": "model.glb",
        "size_bytes": len(WHOLE),
        "sha256": body["sha256"],
    }
    assert await store.sha256(await key_of(stage, body["ticket_id"])) == body["sha256"]
    async with nothing_written(stage.database):
        assert (await complete(stage, spec, body)).json() == first.json()
    report = {"outcome": "succeeded", "artifact_ids": [body["ticket_id"]], "metrics": {}}
    assert (await stage.worker.call(spec, "finish", report)).json()["job_status"] == "SUCCEEDED"


async def test_completed_by_a_call_whose_answer_was_lost(
    stage: Stage, spec: JobSpec, store: ObjectStore
) -> None:
    """Where storage has put the parts together already, the same completion still counts."""
    body = await stage.worker.stream(spec, WHOLE)
    async with stage.database.transaction() as session:
        row = (
            await session.execute(
                text("SELECT object_key, upload_id FROM upload_tickets WHERE id = :id"),
                {"id": body["ticket_id"]},
            )
        ).one()
    assert await store.complete_multipart(row.object_key, row.upload_id, body["etags"])
    assert (await complete(stage, spec, body)).status_code == 200


async def test_a_part_may_be_sent_again(stage: Stage, spec: JobSpec) -> None:
    """A part's URL can be asked for again, if storage's answer was lost."""
    ticket_id = await begin(stage, spec)
    for _ in range(2):
        (url,) = await stage.worker.parts(spec, ticket_id)
        etag = (await put(url, GLB)).headers["ETag"].strip('"')
    body = {
        "ticket_id": ticket_id,
        "etags": [etag],
        "size_bytes": len(GLB),
        "sha256": hashlib.sha256(GLB).hexdigest(),
    }
    assert (await complete(stage, spec, body)).status_code == 200


async def test_begun_anew(stage: Stage, spec: JobSpec) -> None:
    """Beginning again drops what was uploaded under the name, and its URLs with it."""
    ticket_id = await begin(stage, spec)
    (old,) = await stage.worker.parts(spec, ticket_id)
    assert (await put(old, GLB)).status_code == 200
    body = await stage.worker.stream(spec, WHOLE)
    assert body["ticket_id"] == ticket_id
    assert (await put(old, GLB)).status_code == 404
    assert (await complete(stage, spec, body)).status_code == 200


async def test_no_part_can_follow_the_commit(stage: Stage, spec: JobSpec) -> None:
    """What was checked cannot be changed: the URLs of its parts have ended with the upload."""
    ticket_id = await begin(stage, spec)
    (url,) = await stage.worker.parts(spec, ticket_id)
    assert (await complete(stage, spec, await stage.worker.stream(spec, WHOLE))).status_code == 200
    assert (await put(url, GLB)).status_code == 404
    asked = {"ticket_id": ticket_id, "first": 1, "count": 1}
    answer = await stage.worker.call(spec, "streams/parts", asked)
    assert_problem(answer, 404, "TICKET_NOT_FOUND")
    async with nothing_written(stage.database):
        assert_problem(
            await stage.worker.call(spec, "streams", FILE), 409, "ARTIFACT_ALREADY_COMMITTED"
        )


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"etags": ["0" * 32, "0" * 32]}, 409, "ARTIFACT_NOT_UPLOADED"),
        ({"size_bytes": len(WHOLE) - 1}, 422, "ARTIFACT_MISMATCH"),
        ({"sha256": "0" * 64}, 422, "ARTIFACT_MISMATCH"),
        ({"size_bytes": PART_BYTES}, 422, "ARTIFACT_MISMATCH"),
        ({"etags": ["0" * 32]}, 422, "ARTIFACT_MISMATCH"),
        ({"ticket_id": str(uuid4())}, 404, "TICKET_NOT_FOUND"),
        ({"size_bytes": (16 << 30) + 1}, 413, "UPLOAD_TOO_LARGE"),
    ],
)
async def test_other_than_it_is(
    stage: Stage, spec: JobSpec, change: dict[str, Any], status: int, code: str
) -> None:
    """Parts, size or hash that are not those in storage are refused, and nothing is shown."""
    body = await stage.worker.stream(spec, WHOLE)
    assert_problem(await complete(stage, spec, {**body, **change}), status, code)
    async with stage.database.transaction() as session:
        kinds = (await session.execute(text("SELECT kind FROM artifacts"))).scalars().all()
    assert kinds == ["input"]


async def test_other_type(stage: Stage, spec: JobSpec) -> None:
    """Magic bytes decide here, too."""
    body = await stage.worker.stream(spec, b"<html><script>")
    problem = assert_problem(await complete(stage, spec, body), 422, "ARTIFACT_MISMATCH")
    assert "is not" in problem["detail"] or "unknown type" in problem["detail"]


async def test_completed_with_other_content(stage: Stage, spec: JobSpec) -> None:
    """A committed file is not completed again as another one."""
    body = await stage.worker.stream(spec, WHOLE)
    assert (await complete(stage, spec, body)).status_code == 200
    async with nothing_written(stage.database):
        answer = await complete(stage, spec, {**body, "sha256": "0" * 64})
    assert_problem(answer, 409, "ARTIFACT_ALREADY_COMMITTED")


async def test_more_parts_than_a_file_may_have(stage: Stage, spec: JobSpec) -> None:
    """No URL is given for a part that lies behind the largest file there may be."""
    ticket_id = await begin(stage, spec)
    last = (16 << 30) // PART_BYTES
    assert len(await stage.worker.parts(spec, ticket_id, first=last, count=2)) == 1
    asked = {"ticket_id": ticket_id, "first": last + 1, "count": 1}
    async with nothing_written(stage.database):
        answer = await stage.worker.call(spec, "streams/parts", asked)
    assert_problem(answer, 413, "UPLOAD_TOO_LARGE")


@pytest.mark.parametrize(
    ("what", "change", "pointer"),
    [
        ("streams", {"name": "../x"}, "/name"),
        ("streams", {"kind": "hologram"}, "/kind"),
        ("streams", {"media_type": "glb"}, "/media_type"),
        ("streams/parts", {"first": 0}, "/first"),
        ("streams/parts", {"first": MOST_PARTS + 1}, "/first"),
        ("streams/parts", {"count": 65}, "/count"),
        ("streams/parts", {"ticket_id": "x"}, "/ticket_id"),
        ("streams/complete", {"etags": []}, "/etags"),
        ("streams/complete", {"etags": ["</ETag>"]}, "/etags/0"),
        ("streams/complete", {"size_bytes": 0}, "/size_bytes"),
        ("streams/complete", {"sha256": "x"}, "/sha256"),
    ],
)
async def test_impossible_calls(
    worker_client: httpx.AsyncClient, what: str, change: dict[str, Any], pointer: str
) -> None:
    """What cannot be meant is refused by the name of what is wrong."""
    body = {
        "streams": FILE,
        "streams/parts": {"ticket_id": str(uuid4()), "first": 1, "count": 1},
        "streams/complete": {
            "ticket_id": str(uuid4()),
            "etags": ["0" * 32],
            "size_bytes": 1,
            "sha256": "0" * 64,
        },
    }[what]
    answer = await worker_client.post(
        f"/worker/v1/attempts/{uuid4()}/{what}",
        json={**body, **change},
        headers={"X-Attempt-Token": "x"},
    )
    assert_problem(answer, 422, "INVALID_REQUEST", pointer=pointer)


@pytest.mark.parametrize(("kind", "media_type"), [("preview", "text/html"), ("input", "image/png")])
async def test_type_that_a_kind_cannot_have(
    stage: Stage, spec: JobSpec, kind: str, media_type: str
) -> None:
    """What gets no ticket as a whole file gets none in parts."""
    body = {**FILE, "kind": kind, "media_type": media_type}
    async with nothing_written(stage.database):
        answer = await stage.worker.call(spec, "streams", body)
    assert_problem(answer, 422, "ARTIFACT_MISMATCH")


async def test_ticket_of_another_attempt(people: People, stage: Stage) -> None:
    """A streamed file of one attempt is unknown to another."""
    person = await people.make()
    _, one = await stage.running(person)
    _, other = await stage.running(person)
    body = await stage.worker.stream(one)
    asked = {"ticket_id": body["ticket_id"], "first": 1, "count": 1}
    async with nothing_written(stage.database):
        for what, given in (("streams/parts", asked), ("streams/complete", body)):
            answer = await stage.worker.call(other, what, given)
            assert_problem(answer, 404, "TICKET_NOT_FOUND")


@pytest.mark.parametrize("end", ["failed", "cancelled", "lost"])
async def test_parts_of_an_ended_attempt_are_dropped(
    people: People, stage: Stage, store: ObjectStore, end: str
) -> None:
    """However an attempt ends, what it had begun to upload is aborted soon after."""
    person = await people.make()
    job, spec = await stage.running(person)
    ticket_id = await begin(stage, spec)
    (url,) = await stage.worker.parts(spec, ticket_id)
    assert await abort_abandoned_uploads(stage.database, store) == 0
    assert (await put(url, GLB)).status_code == 200
    if end == "failed":
        await stage.worker.fail(spec)
    elif end == "cancelled":
        await person.client.delete(f"{JOBS}/{job['id']}")
        await stage.worker.call(spec, "finish", {"outcome": "cancelled"})
    else:
        await end_lease(stage.database, spec.attempt_id)
        assert await rescue_lost_attempts(stage.database, stage.dispatcher._settings) == 1
    assert await abort_abandoned_uploads(stage.database, store) == 1
    assert (await put(url, GLB)).status_code == 404
    assert await abort_abandoned_uploads(stage.database, store) == 0


async def test_an_upload_that_no_row_names_is_dropped_in_the_end(
    stage: Stage, spec: JobSpec, store: ObjectStore
) -> None:
    """An API that dies between storage's answer and its own note leaks nothing for ever."""
    ticket_id = await begin(stage, spec)
    key = await key_of(stage, ticket_id)
    unnoted = await store.begin_multipart(key, "model/gltf-binary")
    async with stage.database.transaction() as session:
        await session.execute(
            text("UPDATE upload_tickets SET keep_until = now() WHERE id = :id"), {"id": ticket_id}
        )
    assert await delete_unused_objects(stage.database, store) == 1
    assert (await put(store.presign_part(key, unnoted, 1, 60), GLB)).status_code == 404
