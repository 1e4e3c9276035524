"""Rescue: attempts whose lease is over are LOST, and their jobs are tried again or fail."""

from app.config import Settings
from app.db.session import Database
from app.jobs.attempts import AttemptService
from app.jobs.repository import find_lost_attempts
from app.logs import get_logger

log = get_logger(__name__)

_BATCH = 100


async def rescue_lost_attempts(database: Database, settings: Settings) -> int:
    """Take over every silent attempt; returns how many. Safe to run anywhere, at any time."""
    async with database.transaction() as session:
        lost = await find_lost_attempts(session, _BATCH)
    rescued = 0
    for attempt_id in lost:
        # One transaction each: a job that cannot be rescued now must not hold up the others.
        async with database.transaction() as session:
            job = await AttemptService(session, settings).take_over(attempt_id)
        if job is not None:
            rescued += 1
            log.warning(
                "attempt lost", attempt_id=str(attempt_id), job_id=str(job.id), status=job.status
            )
    return rescued
