"""What is in the tables."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text

from app.db.session import Database

TABLES = (
    *("jobs", "artifacts", "attempts", "job_events", "user_queue", "workers"),
    *("organisations", "users", "api_keys", "sessions", "refresh_tokens"),
    *("webhooks", "deliveries", "notification_preferences"),
)


async def count_rows(database: Database) -> dict[str, int]:
    """How many rows each table has."""
    async with database.transaction() as session:
        counts = " UNION ALL ".join(f"SELECT '{t}', count(*) FROM {t}" for t in TABLES)  # noqa: S608
        rows = (await session.execute(text(counts))).all()
    return {str(row[0]): int(row[1]) for row in rows}


@asynccontextmanager
async def nothing_written(database: Database) -> AsyncIterator[None]:
    """Check that no row is more or less at the end of the block."""
    before = await count_rows(database)
    yield
    after = await count_rows(database)
    changed = {table: (before[table], n) for table, n in after.items() if n != before[table]}
    assert not changed, changed
