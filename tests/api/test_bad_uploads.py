"""Uploads that cannot be used: missing, foreign, too big, or not what they say."""

import hashlib
import io
import struct
import zlib
from typing import Any

import httpx
import pytest
from PIL import Image
from sqlalchemy import func, select, update

from app.artifacts.tables import UploadTicket
from app.config import Settings
from app.db.base import seconds
from app.db.session import Database
from tests.support.apps import another_app
from tests.support.people import JOBS, People, Person, png_bytes
from tests.support.problems import assert_problem
from tests.support.rows import nothing_written
from tests.support.runs import Stage

POINTER = "/input_params/image_path"


def _gif() -> bytes:
    out = io.BytesIO()
    Image.new("P", (8, 8)).save(out, "GIF")
    return out.getvalue()


def _bomb(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\x00" * 1000))
        + chunk(b"IEND", b"")
    )


async def _refused(
    person: Person, database: Database, object_name: str, status: int, code: str
) -> dict[str, Any]:
    """A job with this object is refused by create and validate alike, and nothing is written."""
    body = {"model_id": "inflate-v1", "input_params": {"image_path": object_name}}
    async with nothing_written(database):
        answer = await person.client.post(f"{JOBS}/", json=body)
        validated = await person.client.post(f"{JOBS}/validate", json=body)
    assert validated.status_code == status
    return assert_problem(answer, status, code, pointer=POINTER)


@pytest.mark.parametrize(
    "object_name",
    [
        "",
        "x",
        "uploads/",
        "../../etc/passwd",
        "/etc/passwd",
        "uploads/../../secret",
        "uploads/01a1f888-7332-7128-a621-0e7d53df5f83/x/a.png",
        "jobs/01a1f888-7332-7128-a621-0e7d53df5f83/x/model.glb",
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "s3://pipeline3d/uploads/x",
        "茶壺.png",
        "a" * 10_000,
        "%2e%2e%2f",
    ],
)
async def test_never_uploaded(people: People, database: Database, object_name: str) -> None:
    """A name that no ticket was for is unknown, whatever it looks like."""
    await _refused(await people.make(), database, object_name, 404, "UPLOAD_NOT_FOUND")


async def test_somebody_elses(people: People, database: Database) -> None:
    """Another user's upload is as unknown as one that never was, even a colleague's."""
    object_name = await (await people.make()).upload()
    known = await _refused(await people.make(), database, object_name, 404, "UPLOAD_NOT_FOUND")
    never = await _refused(await people.make(), database, "x", 404, "UPLOAD_NOT_FOUND")
    assert known["detail"] == never["detail"]


async def test_output_of_a_job_is_no_upload(people: People, stage: Stage) -> None:
    """A file that a worker uploaded for the user's own job cannot be named as an input."""
    person = await people.make()
    await stage.succeeded(person)
    async with stage.database.transaction() as session:
        output = (
            await session.execute(
                select(UploadTicket.object_key).where(UploadTicket.attempt_id.is_not(None))
            )
        ).scalar_one()
    await _refused(person, stage.database, output, 404, "UPLOAD_NOT_FOUND")


async def _ticket(person: Person, **body: Any) -> httpx.Response:
    fields = {"filename": "a.png", "content_type": "image/png", **body}
    return await person.client.post(f"{JOBS}/upload-ticket", json=fields)


async def test_not_uploaded_yet(people: People, database: Database) -> None:
    """A ticket whose file was never sent is answered with what to do."""
    person = await people.make()
    object_name = (await _ticket(person)).json()["object_name"]
    body = await _refused(person, database, object_name, 409, "UPLOAD_MISSING")
    assert "upload_url" in body["detail"]


async def _age(database: Database, object_name: str, **values: Any) -> None:
    async with database.transaction() as session:
        await session.execute(
            update(UploadTicket).where(UploadTicket.object_key == object_name).values(**values)
        )


async def test_ticket_ran_out_before_the_upload(people: People, database: Database) -> None:
    """A ticket that ran out without an upload is gone."""
    person = await people.make()
    object_name = (await _ticket(person)).json()["object_name"]
    await _age(database, object_name, expires_at=func.now() - seconds(1))
    await _refused(person, database, object_name, 410, "UPLOAD_EXPIRED")


async def test_ticket_ran_out_after_the_upload(people: People, database: Database) -> None:
    """What was uploaded in time can be used until it is no longer kept."""
    person = await people.make()
    object_name = await person.upload()
    await _age(database, object_name, expires_at=func.now() - seconds(1))
    await person.job(input_params={"image_path": object_name})
    await _age(database, object_name, keep_until=func.now() - seconds(1))
    await _refused(person, database, object_name, 410, "UPLOAD_EXPIRED")


async def test_storage_refuses_an_expired_url(
    people: People, settings: Settings, database: Database
) -> None:
    """The upload URL carries its own end: storage refuses one whose signature is changed."""
    person = await people.make()
    async with another_app(settings, upload_ticket_seconds=1) as client:
        answer = await client.post(
            f"{JOBS}/upload-ticket",
            json={"filename": "a.png", "content_type": "image/png"},
            headers={"x-api-key": person.key},
        )
    assert answer.json()["expires_in"] == 1
    url = httpx.URL(answer.json()["upload_url"])
    assert url.params["X-Amz-Expires"] == "1"
    longer = url.copy_set_param("X-Amz-Expires", "604800")
    async with httpx.AsyncClient(trust_env=False) as storage:
        put = await storage.put(longer, content=b"x", headers={"Content-Type": "image/png"})
    assert put.is_client_error


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (_gif(), "image/gif"),
        (b"<!doctype html><script>alert(1)</script>", "unknown type"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unknown type"),
        (b"#!/bin/sh\nrm -rf /", "unknown type"),
        (b"%PDF-1.7", "application/pdf"),
        (b"PK\x03\x04" + b"\x00" * 50, "application/zip"),
        (b"\x00" * 1000, "unknown type"),
        (b"", "empty"),
    ],
)
async def test_not_a_picture(people: People, database: Database, data: bytes, found: str) -> None:
    """The first bytes decide what a file is: calling it picture.png makes it none."""
    person = await people.make()
    object_name = await person.upload(data)
    body = await _refused(person, database, object_name, 422, "UPLOAD_TYPE_NOT_ACCEPTED")
    assert found in body["detail"]


@pytest.mark.parametrize(("width", "height"), [(30_000, 30_000), (4097, 4096), (2**31 - 1, 1)])
async def test_decompression_bomb(
    people: People, database: Database, width: int, height: int
) -> None:
    """A small file that declares a huge picture is refused by its header, undecoded."""
    person = await people.make()
    object_name = await person.upload(_bomb(width, height))
    body = await _refused(person, database, object_name, 422, "IMAGE_TOO_LARGE")
    assert f"{width} x {height}" in body["detail"]


async def test_largest_picture(people: People) -> None:
    """A picture of exactly as many pixels as are accepted is accepted."""
    person = await people.make()
    await person.job(input_params={"image_path": await person.upload(_bomb(4096, 4096))})


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
async def test_type_is_told_not_believed(people: People, kind: str) -> None:
    """A picture of an accepted type is accepted under any name and declared type."""
    out = io.BytesIO()
    Image.new("RGB", (16, 16)).save(out, kind)
    person = await people.make()
    object_name = await person.upload(
        out.getvalue(), filename="notes.txt", content_type="application/octet-stream"
    )
    await person.job(input_params={"image_path": object_name})


async def test_too_big_for_the_model(people: People, database: Database) -> None:
    """A file larger than the model takes is refused with both sizes."""
    person = await people.make()
    size = 20 * 2**20 + 1
    picture = png_bytes()
    object_name = await person.upload(picture + b"\x00" * (size - len(picture)))
    body = await _refused(person, database, object_name, 413, "UPLOAD_TOO_LARGE")
    assert str(size) in body["detail"]
    assert str(20 * 2**20) in body["detail"]


async def _put(ticket: dict[str, Any], data: bytes) -> None:
    async with httpx.AsyncClient(trust_env=False) as storage:
        put = await storage.put(ticket["upload_url"], content=data, headers=ticket["headers"])
    assert put.status_code == 200


@pytest.mark.parametrize("difference", [-1, 1])
async def test_other_size_than_promised(
    people: People, database: Database, difference: int
) -> None:
    """Fewer or more bytes than the ticket promised are refused with both numbers."""
    person = await people.make()
    picture = png_bytes()
    ticket = (await _ticket(person, size_bytes=len(picture) + difference)).json()
    await _put(ticket, picture)
    body = await _refused(person, database, ticket["object_name"], 422, "UPLOAD_MISMATCH")
    assert str(len(picture)) in body["detail"]


async def test_other_bytes_than_promised(people: People, database: Database) -> None:
    """Other bytes than the ticket's SHA-256 promised are refused."""
    person = await people.make()
    ticket = (await _ticket(person, sha256=hashlib.sha256(b"other").hexdigest())).json()
    await _put(ticket, png_bytes())
    body = await _refused(person, database, ticket["object_name"], 422, "UPLOAD_MISMATCH")
    assert "SHA-256" in body["detail"]


async def test_upload_again_before_the_job(people: People) -> None:
    """A wrong file can be replaced by the right one with the same ticket."""
    person = await people.make()
    picture = png_bytes()
    ticket = (await _ticket(person, sha256=hashlib.sha256(picture).hexdigest())).json()
    await _put(ticket, b"wrong")
    await _put(ticket, picture)
    await person.job(input_params={"image_path": ticket["object_name"]})


@pytest.mark.parametrize(
    ("filename", "safe"),
    [
        ("../../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("茶壺.png", "file.png"),
        ("🫖", "file"),
        ("invoice\u202egnp.exe", "invoicegnp.exe"),
        ("a b?c#d%20.png", "a_b_c_d_20.png"),
        ("x" * 255, "x" * 100),
        (".", "file"),
    ],
)
async def test_file_names(people: People, filename: str, safe: str) -> None:
    """Whatever a file is called, its key stays in its folder and works end to end."""
    person = await people.make()
    object_name = await person.upload(filename=filename)
    assert object_name.startswith(f"uploads/{person.id}/")
    assert object_name.split("/")[3:] == [safe]
    await person.job(input_params={"image_path": object_name})


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"filename": ""}, "/filename"),
        ({"filename": "x" * 256}, "/filename"),
        ({"filename": "a\x00b"}, "/filename"),
        ({"filename": None}, "/filename"),
        ({"content_type": ""}, "/content_type"),
        ({"content_type": "png"}, "/content_type"),
        ({"content_type": "image/png\r\nX-Evil: 1"}, "/content_type"),
        ({"content_type": "image/png; charset=x"}, "/content_type"),
        ({"size_bytes": 0}, "/size_bytes"),
        ({"size_bytes": -1}, "/size_bytes"),
        ({"size_bytes": 10**30}, "/size_bytes"),
        ({"size_bytes": 1.5}, "/size_bytes"),
        ({"sha256": "x"}, "/sha256"),
        ({"sha256": "A" * 64}, "/sha256"),
        ({"object_name": "uploads/mine"}, "/object_name"),
    ],
)
async def test_bad_tickets(
    people: People, database: Database, change: dict[str, Any], pointer: str
) -> None:
    """A ticket for something impossible is refused by the name of what is wrong."""
    answer = await _ticket(await people.make(), **change)
    assert_problem(answer, 422, "INVALID_REQUEST", pointer=pointer)
    async with database.transaction() as session:
        assert (await session.execute(select(func.count(UploadTicket.id)))).scalar_one() == 0


async def test_ticket_for_too_much(people: People) -> None:
    """A ticket for more bytes than any model takes is refused before they are sent."""
    answer = await _ticket(await people.make(), size_bytes=512 * 2**20 + 1)
    assert_problem(answer, 413, "UPLOAD_TOO_LARGE")
