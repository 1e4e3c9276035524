"""Waiting until one connection waits for another."""

import asyncio
from typing import Any

from sqlalchemy import text

from app.db.session import Database


async def until_blocked_or_done(
    database: Database, task: asyncio.Task[Any], *, connections: int = 1
) -> None:
    """Until so many connections wait for a lock, or the task has ended without."""
    while not task.done():
        async with database.transaction() as session:
            blocked = await session.execute(
                text(
                    "SELECT count(*) FROM pg_stat_activity "
                    "WHERE wait_event_type = 'Lock' AND datname = current_database()"
                )
            )
            if blocked.scalar_one() >= connections:
                return
