"""Videos sent as a form: streamed to storage, checked before there is a job, or nothing is kept."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import func, select

from app.accounts.roles import Role
from app.artifacts.tables import UploadTicket
from app.config import Settings
from app.db.session import Database
from app.storage.base import ObjectStore
from app.videos import form
from app.videos.intake import MAX_VIDEOS
from app.videos.router import MAX_UPLOADS
from tests.support.apps import another_app
from tests.support.people import JOBS, People, Person
from tests.support.problems import assert_problem
from tests.support.rows import nothing_written
from tests.support.storage import has_parts, stored_keys
from tests.support.worker import MP4

VIDEOS = "/api/v1/videos"
UPLOAD = f"{VIDEOS}/upload"
WEBM = b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x84webm" + bytes(5000)
PNG = b"\x89PNG\r\n\x1a\n" + bytes(5000)
PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:10\nfile:///etc/hostname\n" * 200


@pytest.fixture
async def ada(people: People) -> Person:
    return await people.make()


@pytest.fixture
async def bob(people: People) -> Person:
    return await people.make()


@pytest.fixture
async def nothing_left(
    ada: Person, bob: Person, database: Database, store: ObjectStore
) -> AsyncIterator[None]:
    """Neither a row nor an object is more at the end of the test."""
    before = await stored_keys(store)
    async with nothing_written(database):
        yield
    assert await stored_keys(store) == before


def _files(*contents: bytes, name: str = "talk.mp4") -> list[tuple[str, tuple[str, bytes]]]:
    return [("files", (name, content)) for content in contents]


async def _upload(person: Person, *contents: bytes, **options: Any) -> httpx.Response:
    name = options.pop("name", "talk.mp4")
    return await person.client.post(UPLOAD, files=_files(*contents, name=name), **options)


async def _content(person: Person, job_id: str) -> bytes:
    answer = await person.client.get(f"{JOBS}/{job_id}/artifacts/input")
    async with httpx.AsyncClient(trust_env=False) as storage:
        return (await storage.get(answer.json()["download_url"])).content


async def test_one_video(ada: Person) -> None:
    """A video becomes a queued job of the model for frames, and lies in storage as it was sent."""
    answer = await _upload(ada, MP4, name="../Übung 1.mp4")
    assert answer.status_code == 202, answer.text
    uploaded = answer.json()
    assert uploaded["status"] == "QUEUED"
    assert (uploaded["filename"], uploaded["size_bytes"]) == ("../Übung 1.mp4", len(MP4))
    assert "No live worker" in uploaded["warning"]
    assert answer.headers["location"] == f"{VIDEOS}/{uploaded['job_id']}"
    job = await ada.get(uploaded["job_id"])
    assert (job["model_id"], job["status"]) == ("video-frames-v1", "QUEUED")
    assert job["input_params"]["fps"] == 1
    assert await _content(ada, job["id"]) == MP4


async def test_a_large_video_is_stored_in_parts(ada: Person) -> None:
    """Twenty megabytes arrive byte for byte, in whatever pieces they were sent."""
    video = MP4 + bytes(range(256)) * 80_000
    answer = await _upload(ada, video)
    assert answer.status_code == 202, answer.text
    assert answer.json()["size_bytes"] == len(video)
    assert await _content(ada, answer.json()["job_id"]) == video


@pytest.mark.parametrize("fields_first", [True, False])
async def test_parameters(ada: Person, *, fields_first: bool) -> None:
    """Fields are the model's parameters, of the types of its schema, before or after the files."""
    fields = [
        ("fps", "0.5"),
        ("format", "png"),
        ("max_width", "640"),
        ("autorotate", "false"),
        ("previews", "poster"),
        ("previews", "sprite"),
    ]
    body, kind = _body([*fields, MP4] if fields_first else [MP4, *fields])
    answer = await ada.client.post(UPLOAD, content=body, headers={"content-type": kind})
    assert answer.status_code == 202, answer.text
    params = (await ada.get(answer.json()["job_id"]))["input_params"]
    expected = {"fps": 0.5, "format": "png", "max_width": 640, "autorotate": False}
    assert {name: params[name] for name in expected} == expected
    assert params["previews"] == ["poster", "sprite"]


async def test_lists_as_json(ada: Person) -> None:
    """A list may come as JSON, or as its only value."""
    for text in ('["sprite"]', "sprite"):
        answer = await _upload(ada, MP4, data={"previews": text})
        assert answer.status_code == 202, answer.text
        job = await ada.get(answer.json()["job_id"])
        assert job["input_params"]["previews"] == ["sprite"]


async def test_several_videos(ada: Person) -> None:
    """Several are answered with a list in their order, one job for each."""
    answer = await ada.client.post(
        UPLOAD,
        files=[("a", ("one.mp4", MP4)), ("b", ("two.webm", WEBM)), ("b", ("three.mp4", MP4))],
        data={"fps": "2"},
    )
    assert answer.status_code == 202, answer.text
    uploaded = answer.json()
    assert [video["filename"] for video in uploaded] == ["one.mp4", "two.webm", "three.mp4"]
    assert len({video["job_id"] for video in uploaded}) == 3
    assert await _content(ada, uploaded[1]["job_id"]) == WEBM
    assert (await ada.get(uploaded[2]["job_id"]))["input_params"]["fps"] == 2


async def test_an_empty_file_input_is_no_file(ada: Person) -> None:
    """A browser sends an input without a file as a part without a name."""
    body, kind = _body([MP4])
    empty = b'Content-Disposition: form-data; name="more"; filename=""\r\n\r\n\r\n'
    body = b"--limit\r\n" + empty + body
    answer = await ada.client.post(UPLOAD, content=body, headers={"content-type": kind})
    assert answer.status_code == 202, answer.text


@pytest.mark.parametrize(
    ("contents", "status", "code", "pointer"),
    [
        ([PNG], 422, "UPLOAD_TYPE_NOT_ACCEPTED", "/files/0"),
        ([PLAYLIST], 422, "UPLOAD_TYPE_NOT_ACCEPTED", "/files/0"),
        ([b"x"], 422, "UPLOAD_TYPE_NOT_ACCEPTED", "/files/0"),
        ([b""], 422, "UPLOAD_TYPE_NOT_ACCEPTED", "/files/0"),
        ([MP4, PNG], 422, "UPLOAD_TYPE_NOT_ACCEPTED", "/files/1"),
        ([MP4, MP4, b""], 422, "UPLOAD_TYPE_NOT_ACCEPTED", "/files/2"),
        ([], 422, "NO_VIDEO", None),
        ([MP4] * (MAX_VIDEOS + 1), 413, "UPLOAD_TOO_LARGE", None),
    ],
)
@pytest.mark.usefixtures("nothing_left")
async def test_bad_files(
    ada: Person, contents: list[bytes], status: int, code: str, pointer: str | None
) -> None:
    """One file that is no video refuses all of them, and none of them is kept."""
    files = _files(*contents) or None
    answer = await ada.client.post(UPLOAD, files=files or {"fps": (None, "1")})
    detail = assert_problem(answer, status, code, pointer=pointer)["detail"]
    assert pointer is None or "talk.mp4" in detail


@pytest.mark.parametrize(
    ("fields", "status", "code", "pointer"),
    [
        ({"fps": "31"}, 422, "INVALID_PARAMETERS", "/fps"),
        ({"fps": "quick"}, 422, "INVALID_PARAMETERS", "/fps"),
        ({"fps": "NaN"}, 422, "INVALID_PARAMETERS", "/fps"),
        ({"fps": "1e999"}, 422, "INVALID_PARAMETERS", "/fps"),
        ({"fps": "9" * 5000}, 422, "INVALID_PARAMETERS", "/fps"),
        ({"fps": "[" * 60_000}, 422, "INVALID_PARAMETERS", "/fps"),
        ({"fps": ["1", "2"]}, 422, "INVALID_PARAMETERS", "/fps"),
        ({"max_width": "64.5"}, 422, "INVALID_PARAMETERS", "/max_width"),
        ({"autorotate": "yes"}, 422, "INVALID_PARAMETERS", "/autorotate"),
        ({"format": "gif\x00"}, 422, "INVALID_PARAMETERS", "/format"),
        ({"previews": '["poster", "film"]'}, 422, "INVALID_PARAMETERS", "/previews/1"),
        ({"colour": "red"}, 422, "INVALID_PARAMETERS", "/colour"),
        ({"video_path": "uploads/of/another.mp4", "fps": "31"}, 422, "INVALID_PARAMETERS", "/fps"),
        ({"model_id": "inflate-v1"}, 422, "INVALID_PARAMETERS", "/model_id"),
        ({"model_id": "no-such-model"}, 404, "MODEL_NOT_FOUND", "/model_id"),
        ({"model_id": "\x00"}, 404, "MODEL_NOT_FOUND", "/model_id"),
        ({"model_id": ["video-frames-v1", "inflate-v1"]}, 422, "INVALID_PARAMETERS", "/model_id"),
    ],
)
@pytest.mark.usefixtures("nothing_left")
async def test_bad_fields(
    ada: Person, fields: dict[str, Any], status: int, code: str, pointer: str
) -> None:
    """Fields are checked as the parameters of any job, by the names that they have here."""
    answer = await _upload(ada, MP4, data=fields)
    body = assert_problem(answer, status, code, pointer=pointer)
    assert "input_params" not in body["detail"]


@pytest.mark.usefixtures("nothing_left")
async def test_model_named_after_the_files(ada: Person) -> None:
    """What the files are checked by must be known before them."""
    body, kind = _body([MP4, ("model_id", "inflate-v1")])
    answer = await ada.client.post(UPLOAD, content=body, headers={"content-type": kind})
    detail = assert_problem(answer, 422, "INVALID_PARAMETERS", pointer="/model_id")["detail"]
    assert "before the files" in detail


def _body(parts: list[tuple[str, str] | bytes]) -> tuple[bytes, str]:
    """A form with its parts in this order, and its Content-Type."""
    body = bytearray()
    for part in parts:
        if isinstance(part, bytes):
            head = b'Content-Disposition: form-data; name="files"; filename="talk.mp4"'
            body += b"--limit\r\n" + head + b"\r\n\r\n" + part + b"\r\n"
        else:
            head = f'Content-Disposition: form-data; name="{part[0]}"'.encode()
            body += b"--limit\r\n" + head + b"\r\n\r\n" + part[1].encode() + b"\r\n"
    return bytes(body) + b"--limit--\r\n", "multipart/form-data; boundary=limit"


GOOD, KIND = _body([MP4])


@pytest.mark.parametrize(
    ("body", "kind", "status", "code"),
    [
        (GOOD, None, 415, "UNSUPPORTED_MEDIA_TYPE"),
        (GOOD, "", 415, "UNSUPPORTED_MEDIA_TYPE"),
        (b"{}", "application/json", 415, "UNSUPPORTED_MEDIA_TYPE"),
        (b"a=b", "application/x-www-form-urlencoded", 415, "UNSUPPORTED_MEDIA_TYPE"),
        (GOOD, "multipart/mixed; boundary=limit", 415, "UNSUPPORTED_MEDIA_TYPE"),
        (GOOD, "multipart/form-data", 400, "INVALID_FORM"),
        (GOOD, "multipart/form-data; boundary=", 400, "INVALID_FORM"),
        (GOOD, f"multipart/form-data; boundary={'x' * 201}", 400, "INVALID_FORM"),
        (GOOD, "multipart/form-data; boundary=other", 400, "INVALID_FORM"),
        (b"", KIND, 400, "INVALID_FORM"),
        (b"--limit", KIND, 400, "INVALID_FORM"),
        (b"--limit--", KIND, 422, "NO_VIDEO"),
        (GOOD[:200], KIND, 400, "INVALID_FORM"),
        (GOOD[:-12], KIND, 400, "INVALID_FORM"),
        (GOOD[:-4], KIND, 400, "INVALID_FORM"),
        (GOOD.replace(b'name="files"; ', b""), KIND, 400, "INVALID_FORM"),
        (GOOD.replace(b"Content-Disposition", b"Content-Position"), KIND, 400, "INVALID_FORM"),
        (GOOD.replace(b"talk.mp4", b"\xff\xfe.mp4"), KIND, 400, "INVALID_FORM"),
        (GOOD.replace(b"talk", b"x" * 17_000), KIND, 400, "INVALID_FORM"),
        (b"x" * 2_000_000 + b"\r\n" + GOOD, KIND, 400, "INVALID_FORM"),
        (GOOD + b"x" * 2_000_000, KIND, 400, "INVALID_FORM"),
        (b"--limit\r\n" * 50_000, KIND, 400, "INVALID_FORM"),
        (_body([("a", "1")] * 101)[0], KIND, 400, "INVALID_FORM"),
        (_body([("fps", "1" * 70_000), MP4])[0], KIND, 400, "INVALID_FORM"),
        (_body([("fps", "?"), MP4])[0].replace(b"?", b"\xff"), KIND, 400, "INVALID_FORM"),
    ],
)
@pytest.mark.usefixtures("nothing_left")
async def test_bad_forms(
    ada: Person, body: bytes, kind: str | None, status: int, code: str
) -> None:
    """What is no form, or is damaged, is refused with what was wrong, and nothing is kept."""
    headers = {} if kind is None else {"content-type": kind}
    assert_problem(await ada.client.post(UPLOAD, content=body, headers=headers), status, code)


@pytest.mark.usefixtures("nothing_left")
async def test_a_file_larger_than_the_model_takes(ada: Person, settings: Settings) -> None:
    """The first byte too much ends it, whatever has been stored by then."""
    async with another_app(settings, max_upload_bytes=9 << 20) as client:
        files = _files(MP4, MP4 + bytes(10 << 20))
        answer = await client.post(UPLOAD, files=files, headers={"x-api-key": ada.key})
    detail = assert_problem(answer, 413, "UPLOAD_TOO_LARGE", pointer="/files/1")["detail"]
    assert f"more than {9 << 20} bytes" in detail


async def _connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    place = urlsplit(url)
    return await asyncio.open_connection(place.hostname, place.port)


async def _hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):  # whatever was still to be said
        await writer.wait_closed()


def _request(person: Person, length: int) -> bytes:
    return (
        f"POST {UPLOAD} HTTP/1.1\r\nHost: test\r\nx-api-key: {person.key}\r\n"
        f"Content-Type: {KIND}\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


async def _until_tickets(database: Database, number: int) -> None:
    """Return when so many uploads are known."""
    async with asyncio.timeout(30):
        while True:
            async with database.transaction() as session:
                count = await session.scalar(select(func.count()).select_from(UploadTicket))
            if count == number:
                return
            await asyncio.sleep(0.02)


@pytest.mark.usefixtures("nothing_left")
async def test_a_connection_that_breaks(
    ada: Person, api_url: str, database: Database, store: ObjectStore
) -> None:
    """Of an upload that stops in the middle of its second part nothing is left."""
    body, _ = _body([MP4 + bytes(12 << 20)])
    _, writer = await _connect(api_url)
    writer.write(_request(ada, len(body)) + body[: 10 << 20])
    await writer.drain()
    await _until_tickets(database, 1)
    async with database.transaction() as session:
        key = str(await session.scalar(select(UploadTicket.object_key)))
    async with asyncio.timeout(30):
        while not await has_parts(store, key):  # noqa: ASYNC110  (storage tells nobody)
            await asyncio.sleep(0.02)
    await _hang_up(writer)
    await _until_tickets(database, 0)
    assert not await has_parts(store, key)


@pytest.mark.usefixtures("nothing_left")
async def test_a_client_that_says_nothing_more(
    ada: Person, api_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever holds an upload open without sending is told so, and lets go."""
    monkeypatch.setattr(form, "_QUIET_SECONDS", 0.3)
    body, _ = _body([MP4 + bytes(1 << 20)])
    reader, writer = await _connect(api_url)
    writer.write(_request(ada, len(body)) + body[: 1 << 19])
    async with asyncio.timeout(30):
        head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    await _hang_up(writer)


@pytest.mark.usefixtures("nothing_left")
async def test_whoever_is_refused_hears_why(ada: Person, api_url: str) -> None:
    """A client that sends everything before it listens still gets the answer, and all of it."""
    body, _ = _body([PNG + bytes(30 << 20)])

    def send_all() -> bytes:
        place = urlsplit(api_url)
        with socket.create_connection((place.hostname, place.port), timeout=60) as connection:
            connection.sendall(_request(ada, len(body)) + body)
            answer = bytearray()
            while chunk := connection.recv(65536):
                answer += chunk
        return bytes(answer)

    head, _, problem = (await asyncio.to_thread(send_all)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 422 ")
    assert b"connection: close" in head.lower()
    assert json.loads(problem)["code"] == "UPLOAD_TYPE_NOT_ACCEPTED"


@pytest.mark.usefixtures("nothing_left")
async def test_refused_before_the_body_is_read(api_url: str) -> None:
    """Without a key nothing is read at all: the answer is there before the first byte of a file."""
    reader, writer = await _connect(api_url)
    writer.write(
        f"POST {UPLOAD} HTTP/1.1\r\nHost: test\r\nContent-Type: {KIND}\r\n"
        f"Content-Length: 1000000000\r\nExpect: 100-continue\r\n\r\n".encode()
    )
    async with asyncio.timeout(30):
        head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 401 ")
    await _hang_up(writer)


async def _until_held(app: FastAPI, person: Person, number: int) -> None:
    """Return when the service reads so many uploads of a person."""
    async with asyncio.timeout(30):
        while True:
            if app.state.uploads._waiting[person.id] == number:
                return
            await asyncio.sleep(0.02)


@pytest.mark.usefixtures("nothing_left")
async def test_too_many_at_once(ada: Person, bob: Person, app: FastAPI, api_url: str) -> None:
    """One user holds so many uploads open and no more; others are not in their way."""
    body, _ = _body([MP4 + bytes(1 << 20)])
    async with AsyncExitStack() as held:
        for _ in range(MAX_UPLOADS):
            _, writer = await _connect(api_url)
            held.push_async_callback(_hang_up, writer)
            writer.write(_request(ada, len(body)) + body[:1000])
            await writer.drain()
        await _until_held(app, ada, MAX_UPLOADS)
        assert_problem(await _upload(ada, PNG), 429, "TOO_MANY_UPLOADS")
        assert_problem(await _upload(bob, PNG), 422, "UPLOAD_TYPE_NOT_ACCEPTED")
    await _until_held(app, ada, 0)
    assert_problem(await _upload(ada, PNG), 422, "UPLOAD_TYPE_NOT_ACCEPTED")


async def test_idempotency(ada: Person, store: ObjectStore) -> None:
    """The same form again with its key makes no second job, and its files are not kept twice."""
    headers = {"idempotency-key": "once"}
    first = await _upload(ada, MP4, WEBM, data={"fps": "2"}, headers=headers)
    assert first.status_code == 202, first.text
    kept = await stored_keys(store)
    again = await _upload(ada, MP4, WEBM, data={"fps": "2"}, headers=headers)
    assert again.status_code == 202, again.text
    assert again.headers["idempotency-replayed"] == "true"
    assert [v["job_id"] for v in again.json()] == [v["job_id"] for v in first.json()]
    assert await stored_keys(store) == kept
    for contents, fields in (((MP4, MP4), {"fps": "2"}), ((MP4, WEBM), {"fps": "3"})):
        other = await _upload(ada, *contents, data=fields, headers=headers)
        assert_problem(other, 422, "IDEMPOTENCY_KEY_REUSED")
    assert await stored_keys(store) == kept


async def test_the_same_key_elsewhere(ada: Person) -> None:
    """A key that was used for a job of another route is not this one's."""
    headers = {"idempotency-key": "once"}
    assert (await ada.submit(headers=headers)).status_code == 201
    assert (await _upload(ada, MP4, headers=headers)).status_code == 202


async def test_only_whoever_may_create(people: People) -> None:
    """Who may not create jobs uploads nothing."""
    viewer = await people.make(role=Role.VIEWER)
    assert_problem(await _upload(viewer, MP4), 403, "FORBIDDEN")
