"""Artifacts that workers upload: visible only once they are what was promised."""

import hashlib
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import text

from contract.attempts import JobSpec
from tests.support.people import JOBS, People, png_bytes
from tests.support.problems import assert_problem
from tests.support.rows import nothing_written
from tests.support.runs import Stage
from tests.support.worker import GLB


@pytest.fixture
async def spec(people: People, stage: Stage) -> JobSpec:
    """A running attempt."""
    return (await stage.running(await people.make()))[1]


async def _commit(stage: Stage, spec: JobSpec, ticket_id: object) -> httpx.Response:
    return await stage.worker.call(spec, "artifacts", {"ticket_id": str(ticket_id)})


async def _refused(
    stage: Stage, spec: JobSpec, data: bytes, status: int, code: str, **ticket: Any
) -> dict[str, Any]:
    """This file, uploaded with this ticket, is not committed and nothing is written."""
    granted = await stage.worker.ticket(spec, data, **ticket)
    assert granted.status_code == 200, granted.text
    await stage.worker.put(granted.json(), data)
    async with nothing_written(stage.database):
        answer = await _commit(stage, spec, granted.json()["ticket_id"])
    return assert_problem(answer, status, code)


async def test_ticket(stage: Stage, spec: JobSpec) -> None:
    """A ticket's URL leads into the attempt's own folder, and the header to send is given."""
    ticket = (await stage.worker.ticket(spec)).json()
    assert f"/jobs/{spec.job_id}/{spec.attempt_id}/model.glb?" in ticket["upload_url"]
    assert ticket["headers"] == {"Content-Type": "model/gltf-binary"}
    assert ticket["expires_at"].endswith("Z")


async def test_commit(stage: Stage, spec: JobSpec) -> None:
    """A good file is committed; the same commit again answers the same, without another event."""
    granted = (await stage.worker.ticket(spec)).json()
    await stage.worker.put(granted)
    first = await _commit(stage, spec, granted["ticket_id"])
    assert first.status_code == 200
    assert first.json() == {
        "artifact_id": granted["ticket_id"],
        "kind": "model_3d",
        "name": "model.glb",
        "size_bytes": len(GLB),
        "sha256": hashlib.sha256(GLB).hexdigest(),
    }
    async with nothing_written(stage.database):
        assert (await _commit(stage, spec, granted["ticket_id"])).json() == first.json()


async def test_not_in_storage(stage: Stage, spec: JobSpec) -> None:
    """A file that was never sent is not committed."""
    granted = (await stage.worker.ticket(spec)).json()
    async with nothing_written(stage.database):
        answer = await _commit(stage, spec, granted["ticket_id"])
    body = assert_problem(answer, 409, "ARTIFACT_NOT_UPLOADED")
    assert "model.glb is not in storage" in body["detail"]


@pytest.mark.parametrize("difference", [-1, 1, 1000])
async def test_other_size(stage: Stage, spec: JobSpec, difference: int) -> None:
    """More or fewer bytes than promised are refused with both numbers."""
    promised = len(GLB + b"x" * 10)
    body = await _refused(
        stage,
        spec,
        GLB + b"x" * (10 + difference),
        422,
        "ARTIFACT_MISMATCH",
        size_bytes=promised,
    )
    assert f"{promised + difference} bytes; {promised} were promised" in body["detail"]


async def test_other_bytes(stage: Stage, spec: JobSpec) -> None:
    """Other bytes than the promised SHA-256 are refused."""
    body = await _refused(stage, spec, GLB, 422, "ARTIFACT_MISMATCH", sha256="0" * 64)
    assert "SHA-256" in body["detail"]


@pytest.mark.parametrize(
    ("data", "media_type", "reason"),
    [
        (png_bytes(), "image/webp", "is image/png, not image/webp"),
        (GLB, "image/png", "is model/gltf-binary, not image/png"),
        (b"<html><script>", "image/png", "is of unknown type"),
    ],
)
async def test_other_type(
    stage: Stage, spec: JobSpec, data: bytes, media_type: str, reason: str
) -> None:
    """A file that is not of its declared type is refused."""
    body = await _refused(
        stage,
        spec,
        data,
        422,
        "ARTIFACT_MISMATCH",
        kind="preview",
        name="front.png",
        media_type=media_type,
    )
    assert reason in body["detail"]


async def test_refused_file_is_invisible(people: People, stage: Stage) -> None:
    """What was refused is in no list and no download."""
    person = await people.make()
    job, spec = await stage.running(person)
    await _refused(stage, spec, GLB, 422, "ARTIFACT_MISMATCH", sha256="0" * 64)
    items = (await person.client.get(f"{JOBS}/{job['id']}/artifacts")).json()["items"]
    assert [item["kind"] for item in items] == ["input"]


async def test_upload_can_be_repaired(stage: Stage, spec: JobSpec) -> None:
    """After a refusal the same name can be asked for again, with new promises."""
    await _refused(stage, spec, GLB, 422, "ARTIFACT_MISMATCH", sha256="0" * 64)
    assert await stage.worker.upload(spec)


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        *(
            ({"name": name}, "/name")
            for name in ("../x", "a/b", "a\\b", "/etc/passwd", "..", ".x", "", "x" * 101, "a b")
        ),
        *(({"name": name}, "/name") for name in ("é.glb", "a\x00", "a\n", "%2e%2e")),
        ({"kind": "hologram"}, "/kind"),
        ({"media_type": "glb"}, "/media_type"),
        ({"media_type": "model/gltf-binary\r\nX: y"}, "/media_type"),
        ({"size_bytes": 0}, "/size_bytes"),
        ({"size_bytes": -1}, "/size_bytes"),
        ({"size_bytes": 1 << 41}, "/size_bytes"),
        ({"size_bytes": 10**40}, "/size_bytes"),
        ({"sha256": "x"}, "/sha256"),
        ({"sha256": "A" * 64}, "/sha256"),
    ],
)
async def test_bad_tickets(
    worker_client: httpx.AsyncClient, change: dict[str, Any], pointer: str
) -> None:
    """A ticket for something impossible is refused by the name of what is wrong."""
    body = {
        "kind": "model_3d",
        "name": "model.glb",
        "media_type": "model/gltf-binary",
        "size_bytes": 12,
        "sha256": "0" * 64,
        **change,
    }
    answer = await worker_client.post(
        f"/worker/v1/attempts/{uuid4()}/upload-tickets",
        json=body,
        headers={"X-Attempt-Token": "x"},
    )
    assert_problem(answer, 422, "INVALID_REQUEST", pointer=pointer)


async def test_too_large(stage: Stage, spec: JobSpec) -> None:
    """A file larger than any artifact may be is refused before it is sent."""
    answer = await stage.worker.ticket(spec, size_bytes=(16 << 30) + 1)
    assert_problem(answer, 413, "UPLOAD_TOO_LARGE")


async def test_committed_name_is_taken(stage: Stage, spec: JobSpec) -> None:
    """A committed artifact cannot be replaced by other content under its name."""
    await stage.worker.upload(spec)
    answer = await stage.worker.ticket(spec, GLB + b"other")
    assert_problem(answer, 409, "ARTIFACT_ALREADY_COMMITTED")
    assert (await stage.worker.ticket(spec)).status_code == 200


async def test_ticket_of_another_attempt(people: People, stage: Stage) -> None:
    """A ticket of one attempt is unknown to another, and so is a user's."""
    person = await people.make()
    _, one = await stage.running(person)
    _, other = await stage.running(person)
    granted = (await stage.worker.ticket(one)).json()
    await stage.worker.put(granted)
    users = one.inputs[0].object_name.split("/")[2]
    async with nothing_written(stage.database):
        for ticket_id in (granted["ticket_id"], users, uuid4()):
            answer = await _commit(stage, other, ticket_id)
            assert_problem(answer, 404, "TICKET_NOT_FOUND")
        answer = await stage.worker.call(other, "artifacts", {"ticket_id": "x"})
    assert_problem(answer, 422, "INVALID_REQUEST", pointer="/ticket_id")


@pytest.mark.parametrize(
    ("kind", "media_type"),
    [
        ("preview", "text/html"),
        ("preview", "image/svg+xml"),
        ("preview", "text/javascript"),
        ("preview", "application/octet-stream"),
        ("model_3d", "application/octet-stream"),
        ("manifest", "text/plain"),
        ("input", "image/png"),
    ],
)
async def test_type_that_a_kind_cannot_have(
    stage: Stage, spec: JobSpec, kind: str, media_type: str
) -> None:
    """What browsers would run, or what is no such thing, gets no ticket at all."""
    answer = await stage.worker.ticket(spec, GLB, kind=kind, media_type=media_type)
    body = assert_problem(answer, 422, "ARTIFACT_MISMATCH")
    assert media_type in body["detail"] or kind in body["detail"]


@pytest.mark.parametrize("data", [b"<html><script>", b"{"])
async def test_json_that_is_none(stage: Stage, spec: JobSpec, data: bytes) -> None:
    """A manifest that is no JSON is refused."""
    body = await _refused(
        stage,
        spec,
        data,
        422,
        "ARTIFACT_MISMATCH",
        kind="manifest",
        name="manifest.json",
        media_type="application/json",
    )
    assert "is not valid JSON" in body["detail"]


async def test_too_many_files(stage: Stage, spec: JobSpec) -> None:
    """An attempt may ask for a thousand files, for one of them again, and for no other."""
    first = (await stage.worker.ticket(spec, name="file-0.glb")).json()
    async with stage.database.transaction() as session:
        await session.execute(
            text(
                "INSERT INTO upload_tickets (id, user_id, attempt_id, object_key, kind, name,"
                " media_type, size_bytes, sha256, expires_at)"
                " SELECT gen_random_uuid(), user_id, attempt_id, object_key || n, kind, name || n,"
                " media_type, size_bytes, sha256, expires_at"
                " FROM upload_tickets, generate_series(1, 999) n WHERE id = :id"
            ),
            {"id": first["ticket_id"]},
        )
    body = assert_problem(await stage.worker.ticket(spec, name="more.glb"), 413, "UPLOAD_TOO_LARGE")
    assert "at most 1000 files" in body["detail"]
    assert (await stage.worker.ticket(spec, name="file-0.glb")).status_code == 200
