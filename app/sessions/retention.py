"""Retention of sessions and of failed log-ins, which are deleted when they are over."""

from app.db.session import Database
from app.sessions.repository import delete_old


async def forget_sessions(database: Database) -> int:
    """Delete sessions that are long over, and failed log-ins that no longer count; how many."""
    async with database.transaction() as session:
        return await delete_old(session)
