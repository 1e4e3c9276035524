"""The API's pulse: an attempt is only lost if its worker could have said that it lives.

Workers extend their leases through the API. While no API process answers, a lease that runs out
says nothing about its worker, so the rescuer waits; and the first API process that is back gives
every running attempt a full lease, before anybody looks at it.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from uuid import UUID

from sqlalchemy import ColumnElement, delete, exists, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.db.base import new_id, seconds
from app.db.session import Database
from app.jobs.lifecycle import GRACE_SECONDS, AttemptStatus
from app.jobs.tables import Attempt
from app.logs import get_logger
from app.workers.tables import ApiProcess

log = get_logger(__name__)

LONGEST_SILENCE_SECONDS = 15.0
_PULSES_IN_SILENCE = 3
_FORGET_SECONDS = 86400.0


def silent_seconds(settings: Settings) -> float:
    """For how long an API process is not seen when it counts as one that answers nobody.

    At most half a lease, which is what a living worker's lease still lasts at any moment: so the
    silence is noticed before any lease runs out in it.
    """
    return min(LONGEST_SILENCE_SECONDS, settings.lease_seconds / 2)


def api_answers(settings: Settings) -> ColumnElement[bool]:
    """SQL: whether some API process has been alive lately."""
    return exists().where(ApiProcess.seen_at > func.now() - seconds(silent_seconds(settings)))


async def beat(session: AsyncSession, settings: Settings, process_id: UUID) -> int:
    """Say that an API process is alive; after a silence, give running attempts their time back.

    Returns:
        How many leases were extended.
    """
    extended = 0
    if not (await session.execute(select(api_answers(settings)))).scalar_one():
        lost_time = (
            update(Attempt)
            .where(Attempt.status == AttemptStatus.RUNNING.value)
            .values(
                lease_expires_at=func.greatest(
                    Attempt.lease_expires_at, func.now() + seconds(settings.lease_seconds)
                ),
                deadline_at=func.greatest(Attempt.deadline_at, func.now() + seconds(GRACE_SECONDS)),
            )
            .returning(Attempt.id)
        )
        extended = len((await session.execute(lost_time)).all())
    statement = insert(ApiProcess).values(id=process_id, seen_at=func.now())
    await session.execute(
        statement.on_conflict_do_update(index_elements=["id"], set_={"seen_at": func.now()})
    )
    await session.execute(
        delete(ApiProcess).where(ApiProcess.seen_at < func.now() - seconds(_FORGET_SECONDS))
    )
    return extended


@contextlib.asynccontextmanager
async def api_pulse(database: Database, settings: Settings) -> AsyncIterator[None]:
    """Keep the pulse of this API process going while the block runs."""
    process_id = new_id()

    async def keep_beating() -> None:
        while True:
            try:
                async with database.transaction() as session:
                    extended = await beat(session, settings, process_id)
                if extended:
                    log.info("leases extended after a silence of the API", attempts=extended)
            except Exception as error:  # noqa: BLE001  (the database may be away for a while)
                log.warning("no pulse", error=f"{type(error).__name__}: {error}"[:300])
            await asyncio.sleep(silent_seconds(settings) / _PULSES_IN_SILENCE)

    pulse = asyncio.create_task(keep_beating(), name="api-pulse")
    try:
        yield
    finally:
        pulse.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await pulse
