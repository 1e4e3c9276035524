"""Moving: what waits for a model that has changed its queue follows it there.

Nothing is locked when a job is created or a model changed, so a job may be written to the queue
that its model is just leaving; and one that runs meanwhile comes back to it when it has failed.
"""

from app.db.session import Database
from app.jobs.moving import find_left_behind, follow
from app.logs import get_logger

log = get_logger(__name__)


async def move_left_behind(database: Database) -> int:
    """Move waiting jobs to their model's queue; returns how many, there may be more.

    Safe to run anywhere, at any time.
    """
    async with database.transaction() as session:
        found = await find_left_behind(session)
    total = 0
    for left in found:
        async with database.transaction() as session:
            moved = await follow(session, left)
        if moved:
            log.info("jobs have followed their model", jobs=moved, model=left.model_id)
        total += moved
    return total
