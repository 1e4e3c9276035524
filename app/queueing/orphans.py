"""Orphans: objects in storage that no row knows of.

There are none as long as both live together: every object has a ticket, which is deleted after it.
A database that was restored from a backup, or a bucket that somebody else wrote into, makes some.
So nothing is deleted by itself: another platform may share the bucket, and know them well.
"""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

from app.artifacts.keeping import find_unknown
from app.artifacts.names import PREFIXES
from app.db.session import Database
from app.storage.base import ObjectStore, StoredObject

SETTLED = timedelta(days=1)
"""Younger ones are left alone, whatever the clocks of both servers say."""


async def find_orphans(
    database: Database, store: ObjectStore, *, settled: timedelta = SETTLED
) -> AsyncIterator[list[StoredObject]]:
    """Objects under our own prefixes that no ticket knows of, page by page.

    Raises:
        StorageUnavailableError: storage cannot be asked.
    """
    before = datetime.now(UTC) - settled
    for prefix in PREFIXES:
        async for page in store.list_pages(prefix):
            old = {item.key: item for item in page if item.modified_at <= before}
            async with database.transaction() as session:
                unknown = await find_unknown(session, list(old))
            if unknown:
                yield [item for key, item in old.items() if key in unknown]


async def delete_orphans(
    database: Database, store: ObjectStore, *, settled: timedelta = SETTLED
) -> tuple[int, int]:
    """Delete all of them; how many were deleted, and how many remain.

    Raises:
        StorageUnavailableError: storage cannot be asked.
    """
    deleted = remaining = 0
    async for page in find_orphans(database, store, settled=settled):
        left = await store.delete([item.key for item in page])
        remaining += len(left)
        deleted += len(page) - len(left)
    return deleted, remaining
