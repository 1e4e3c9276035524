"""Storing an object while its bytes arrive, with no more than a part of it in memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from app.storage.base import ObjectStore, StorageUnavailableError

PART_BYTES = 8 << 20
"""At most 10 000 of them make an object."""


async def write_stream(
    store: ObjectStore, key: str, chunks: AsyncIterator[bytes], media_type: str
) -> None:
    """Store an object, in parts if there is more than one of them.

    Whatever `chunks` raises is passed on, and then nothing is left in the store.

    Raises:
        StorageUnavailableError: the store cannot be reached, or refuses us.
    """
    parts = _parts(chunks)
    first = await anext(parts, b"")
    if len(first) < PART_BYTES:
        await store.write(key, first, media_type)
        return
    try:
        await _write_parts(store, key, media_type, first, parts)
    except BaseException:
        # Whoever is told to stop still has this to do; what fails here is retention's.
        with suppress(StorageUnavailableError):
            await asyncio.shield(store.abort_multiparts(key))
        raise


async def _write_parts(
    store: ObjectStore, key: str, media_type: str, first: bytes, rest: AsyncIterator[bytes]
) -> None:
    upload_id = await store.begin_multipart(key, media_type)
    etags = [await store.write_part(key, upload_id, 1, first)]
    async for part in rest:
        etags.append(await store.write_part(key, upload_id, len(etags) + 1, part))
    if not await store.complete_multipart(key, upload_id, etags):
        raise StorageUnavailableError("The store does not have the parts it was given.")


async def _parts(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in pieces of one size; the last one may be smaller, and is never empty."""
    part = bytearray()
    async for chunk in chunks:
        part += chunk
        while len(part) >= PART_BYTES:
            yield bytes(part[:PART_BYTES])
            del part[:PART_BYTES]
    if part:
        yield bytes(part)
