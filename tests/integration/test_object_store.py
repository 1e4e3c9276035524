"""What the platform relies on in an object store: whatever adapter or server is used must do this.

`store` is the adapter on a real S3 server; another one is tried by running these on it.
"""

import hashlib
from uuid import uuid4

import httpx
import pytest

from app.storage.base import ObjectStore

PART = bytes(5 << 20)
"""The smallest that S3 takes as a part, but for the last."""


@pytest.fixture
def key() -> str:
    return f"tests/{uuid4()}/file.bin"


async def put(url: str, content: bytes) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.put(url, content=content)


async def put_part(store: ObjectStore, key: str, upload: str, number: int, content: bytes) -> str:
    """Upload a part by its URL; its ETag."""
    answer = await put(store.presign_part(key, upload, number, 60), content)
    assert answer.status_code == 200, answer.text
    return answer.headers["ETag"].strip('"')


async def test_write_and_read(store: ObjectStore, key: str) -> None:
    """What was written is read, by its beginning and by its hash; what is not there is None."""
    assert await store.read_start(key, 4) is None
    etag = await store.write(key, b"content", "application/octet-stream")
    found = await store.read_start(key, 4)
    assert found is not None
    assert (found.size_bytes, found.etag, found.head, found.is_whole) == (7, etag, b"cont", False)
    assert await store.sha256(key) == hashlib.sha256(b"content").hexdigest()
    assert await store.delete([key, f"{key}.never"]) == []
    assert await store.read_start(key, 4) is None


async def test_parts_become_an_object(store: ObjectStore, key: str) -> None:
    """In the order of their numbers, whichever was sent first; before, there is no object."""
    upload = await store.begin_multipart(key, "application/octet-stream")
    second = await put_part(store, key, upload, 2, b"tail")
    first = await put_part(store, key, upload, 1, PART)
    assert await store.read_start(key, 1) is None
    assert await store.complete_multipart(key, upload, [first, second])
    found = await store.read_start(key, 1)
    assert found is not None
    assert found.size_bytes == len(PART) + 4
    assert await store.sha256(key) == hashlib.sha256(PART + b"tail").hexdigest()


async def test_completed_again(store: ObjectStore, key: str) -> None:
    """A second completion says that it cannot be, and leaves the object as it is."""
    upload = await store.begin_multipart(key, "application/octet-stream")
    etag = await put_part(store, key, upload, 1, b"all")
    assert await store.complete_multipart(key, upload, [etag])
    assert not await store.complete_multipart(key, upload, [etag])
    assert await store.read_start(key, 3) is not None


@pytest.mark.parametrize("etags", [["0" * 32], ["0" * 32, "1" * 32]])
async def test_parts_that_are_not_there(store: ObjectStore, key: str, etags: list[str]) -> None:
    """Other parts than those in storage make no object."""
    upload = await store.begin_multipart(key, "application/octet-stream")
    await put_part(store, key, upload, 1, b"all")
    assert not await store.complete_multipart(key, upload, etags)
    assert await store.read_start(key, 1) is None


async def test_a_part_sent_again(store: ObjectStore, key: str) -> None:
    """The same part, sent twice because an answer was lost, is there once."""
    upload = await store.begin_multipart(key, "application/octet-stream")
    etags = {await put_part(store, key, upload, 1, b"all") for _ in range(2)}
    assert await store.complete_multipart(key, upload, [*etags])
    found = await store.read_start(key, 9)
    assert found is not None
    assert found.head == b"all"


async def test_abort(store: ObjectStore, key: str) -> None:
    """Every upload of the key is dropped, and no other's; aborting nothing is no error."""
    longer = f"{key}.too"
    mine = [await store.begin_multipart(key, "application/octet-stream") for _ in range(2)]
    other = await store.begin_multipart(longer, "application/octet-stream")
    await store.abort_multiparts(key)
    await store.abort_multiparts(key)
    for upload in mine:
        assert (await put(store.presign_part(key, upload, 1, 60), b"x")).status_code == 404
    etag = await put_part(store, longer, other, 1, b"x")
    assert await store.complete_multipart(longer, other, [etag])


async def test_a_signature_is_for_one_part(store: ObjectStore, key: str) -> None:
    """A part's URL cannot be used for another part, nor for the object itself."""
    upload = await store.begin_multipart(key, "application/octet-stream")
    url = store.presign_part(key, upload, 1, 60)
    assert (await put(url.replace("partNumber=1", "partNumber=2"), b"x")).status_code == 403
    bare = url.replace("partNumber=1&", "").replace(f"uploadId={upload}&", "")
    assert (await put(bare, b"x")).status_code == 403
