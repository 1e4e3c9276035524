"""Rescue: attempts whose lease is over are LOST, and their jobs are tried again or fail."""

from sqlalchemy import select

from app.config import Settings
from app.db.session import Database
from app.jobs.recovery import take_over
from app.jobs.repository import find_lost_attempts
from app.logs import get_logger
from app.workers.api_pulse import api_answers

log = get_logger(__name__)

_BATCH = 100


async def rescue_lost_attempts(database: Database, settings: Settings) -> int:
    """Take over every silent attempt; returns how many. Safe to run anywhere, at any time."""
    async with database.transaction() as session:
        if not (await session.execute(select(api_answers(settings)))).scalar_one():
            return 0  # silence says nothing while nobody could have been told
        lost = await find_lost_attempts(session, _BATCH)
    rescued = 0
    for attempt_id in lost:
        # One transaction each: a job that cannot be rescued now must not hold up the others.
        try:
            async with database.transaction() as session:
                job = await take_over(session, settings, attempt_id)
        except Exception:
            log.exception("an attempt could not be taken over", attempt_id=str(attempt_id))
            continue
        if job is not None:
            rescued += 1
            log.warning(
                "attempt lost", attempt_id=str(attempt_id), job_id=str(job.id), status=job.status
            )
    return rescued
