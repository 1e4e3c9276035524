"""The real service under the state machine: the calls it makes and the rows it looks at."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import func, text

from app.config import Settings
from app.db.base import seconds
from app.db.session import Database
from app.jobs.recovery import withdraw
from app.queueing.dispatcher import Dispatcher
from app.queueing.rescuer import rescue_lost_attempts
from app.queueing.retention import expire_jobs
from tests.support.jobs import set_job
from tests.support.people import Person
from tests.support.worker import FakeWorker

T = TypeVar("T")

_CLEAR = ("artifacts", "upload_tickets", "job_events", "attempts", "jobs", "user_queue")
_SNAPSHOT = text("""
SELECT id, user_id, status, slot, failures, releases,
    cancel_requested_at IS NOT NULL AS cancel_requested,
    (SELECT coalesce(jsonb_object_agg(a.id, a.status), '{}') FROM attempts a WHERE a.job_id = j.id)
        AS attempts,
    (SELECT jsonb_agg(jsonb_build_array(e.type, e.data->>'status') ORDER BY e.id)
        FROM job_events e WHERE e.job_id = j.id) AS events
FROM jobs j
""")


@dataclass(frozen=True)
class Row:
    """A job as the database has it."""

    id: UUID
    user_id: UUID
    status: str
    slot: int | None
    failures: int
    releases: int
    cancel_requested: bool
    attempts: dict[str, str]
    events: list[tuple[str, str | None]]


@dataclass(frozen=True)
class World:
    """People, a worker and the platform's duties; its calls run in the service's own loop."""

    loop: asyncio.AbstractEventLoop
    people: tuple[Person, ...]
    max_active: tuple[int, ...]
    worker: FakeWorker
    dispatcher: Dispatcher
    database: Database
    settings: Settings

    def do(self, call: Coroutine[Any, Any, T]) -> T:
        """Let the loop do something, and wait for it."""
        return asyncio.run_coroutine_threadsafe(call, self.loop).result(60)

    async def clear(self) -> None:
        """No jobs; the workers stay, and stay alive."""
        async with self.database.transaction() as session:
            for table in _CLEAR:
                await session.execute(text(f"DELETE FROM {table}"))  # noqa: S608
            await session.execute(text("UPDATE workers SET last_seen_at = now()"))

    async def rows(self) -> dict[UUID, Row]:
        """Every job with its attempts and events."""
        async with self.database.transaction() as session:
            found = (await session.execute(_SNAPSHOT)).mappings()
            return {row["id"]: Row(**row) for row in found}

    async def hold(self, job_id: UUID) -> None:
        """Let a wait that has begun be long, so that it never ends by itself."""
        await set_job(self.database, job_id, available_at=func.now() + seconds(3600))

    async def rescue(self) -> int:
        """What the dispatcher does about leases that are over."""
        return await rescue_lost_attempts(self.database, self.settings)

    async def expire(self, job_id: UUID) -> int:
        """Let a job's retention be over, if it has one."""
        await set_job(self.database, job_id, expires_at=func.now() - seconds(1))
        return await expire_jobs(self.database)

    async def withdraw(self, attempt_id: UUID) -> bool:
        """Take back an attempt that nobody is there to claim."""
        async with self.database.transaction() as session:
            return await withdraw(session, attempt_id)
