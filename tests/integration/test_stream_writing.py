"""Objects that are stored while their bytes arrive: whole, or not at all."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from sqlalchemy import text

from app.artifacts.uploads import create_upload_ticket
from app.config import Settings
from app.db.session import Database
from app.queueing.retention import delete_unused_objects
from app.storage.base import ObjectStore
from app.storage.writing import PART_BYTES, write_stream
from app.usage.service import UsageLimits
from tests.support.people import People
from tests.support.storage import has_parts, stored_keys


@pytest.fixture
def key() -> str:
    return f"tests/{uuid4()}/file.bin"


async def _chunks(content: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


@pytest.mark.parametrize(
    "size", [0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES, 2 * PART_BYTES + 7]
)
@pytest.mark.parametrize("chunk", [65_536, 3 * PART_BYTES])
async def test_any_size_arrives_whole(store: ObjectStore, key: str, size: int, chunk: int) -> None:
    """Whatever the number of bytes, and however they come, the same ones are in the store."""
    content = (bytes(range(251)) * (size // 251 + 1))[:size]
    await write_stream(store, key, _chunks(content, chunk), "application/octet-stream")
    found = await store.read_start(key, 1)
    assert found is not None
    assert found.size_bytes == size
    assert await store.sha256(key) == hashlib.sha256(content).hexdigest()
    assert not await has_parts(store, key)
    await store.delete([key])


@pytest.mark.parametrize("after", [0, 1, PART_BYTES, 2 * PART_BYTES + 1])
async def test_a_source_that_fails_leaves_nothing(store: ObjectStore, key: str, after: int) -> None:
    """What the source raises comes through, and the store is as it was."""
    before = await stored_keys(store)

    async def failing() -> AsyncIterator[bytes]:
        async for chunk in _chunks(bytes(after), 1 << 20):
            yield chunk
        assert await has_parts(store, key) == (after >= PART_BYTES)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        await write_stream(store, key, failing(), "application/octet-stream")
    assert await stored_keys(store) == before
    assert not await has_parts(store, key)


async def test_a_cancelled_writer_leaves_nothing(store: ObjectStore, key: str) -> None:
    """Nor does one that is told to stop in the middle."""
    before = await stored_keys(store)
    reached = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield bytes(PART_BYTES)
        yield bytes(PART_BYTES)
        reached.set()
        await asyncio.Event().wait()

    writing = asyncio.create_task(write_stream(store, key, endless(), "application/octet-stream"))
    await asyncio.wait_for(reached.wait(), 30)
    assert await has_parts(store, key)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert await stored_keys(store) == before
    assert not await has_parts(store, key)


async def test_parts_of_a_process_that_was_killed(
    store: ObjectStore, people: People, database: Database, settings: Settings
) -> None:
    """What a process has left in mid-upload is known by its ticket, and goes in time."""
    principal = await (await people.make()).principal(database)
    async with database.transaction() as session:
        ticket = await create_upload_ticket(
            session,
            principal,
            settings,
            UsageLimits(database, settings),
            filename="talk.mp4",
            content_type="video/mp4",
            size_bytes=None,
            sha256=None,
            streamed=True,
        )
    upload_id = await store.begin_multipart(ticket.object_key, "video/mp4")
    await store.write_part(ticket.object_key, upload_id, 1, bytes(PART_BYTES))
    assert await delete_unused_objects(database, store) == 0
    assert await has_parts(store, ticket.object_key)
    async with database.transaction() as session:
        await session.execute(text("UPDATE upload_tickets SET keep_until = now() - interval '1 s'"))
    assert await delete_unused_objects(database, store) == 1
    assert not await has_parts(store, ticket.object_key)
