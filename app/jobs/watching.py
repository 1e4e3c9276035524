"""Waiting for a job to change, and its events as a live stream (server-sent events)."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar
from uuid import UUID

from app.db.session import Database
from app.db.signals import Channel, first_of
from app.jobs.lifecycle import FINAL_JOB_STATUSES
from app.jobs.repository import look_at_job
from app.jobs.schemas import EventOut

T = TypeVar("T")

_LOOK_SECONDS = 2.0
"""A signal may be lost, so look this often without one."""
_KEEP_ALIVE_SECONDS = 15.0
_PAGE = 200

STREAM_SECONDS = 600.0
"""A stream ends after this; the client comes back by itself."""


async def wait_until(
    database: Database,
    job_id: UUID,
    look: Callable[[], Awaitable[T]],
    enough: Callable[[T], bool],
    *,
    seconds: float,
    stopping: asyncio.Event,
) -> T:
    """Look at a job until it has changed enough; the last look is answered.

    It ends all the same after so many seconds, or when the process is about to stop.
    """
    deadline = time.monotonic() + seconds
    with database.signals.listen(Channel.JOB_CHANGED, str(job_id)) as changed:
        while True:
            changed.clear()
            seen = await look()
            left = deadline - time.monotonic()
            if enough(seen) or left <= 0 or stopping.is_set():
                return seen
            await first_of(changed, stopping, seconds=min(left, _LOOK_SECONDS))


async def stream_events(
    database: Database,
    job_id: UUID,
    *,
    after: int,
    type_pattern: str | None,
    allowed: Callable[[], Awaitable[bool]],
    stopping: asyncio.Event,
) -> AsyncIterator[str]:
    """A job's events as server-sent events, from the table first and then as they happen.

    Progress is sent as `job.progress` without an id: it is not kept, so it cannot be replayed. The
    stream ends once the job has ended and all its events are sent, when the client may not see them
    any more, or when the process is about to stop: a client comes back by itself and goes on where
    it was, if it may.

    Args:
        database: where to look.
        job_id: the job.
        after: the id of the last event that the client has (`Last-Event-ID`).
        type_pattern: only events of this type, or whose type begins like this, as in `zone.*`.
        allowed: whether the client still may see them; asked before each look.
        stopping: ends the stream.
    """
    yield "retry: 2000\n\n"
    last_progress = ""
    quiet_since = time.monotonic()
    end = quiet_since + STREAM_SECONDS
    with database.signals.listen(Channel.JOB_CHANGED, str(job_id)) as changed:
        while not stopping.is_set() and time.monotonic() < end and await allowed():
            changed.clear()
            job, events = await look_at_job(
                database, job_id, after=after, type_pattern=type_pattern, limit=_PAGE
            )
            for event in events:
                after = event.id
                data = EventOut.of(event).model_dump_json()
                yield f"id: {event.id}\nevent: {event.type}\ndata: {data}\n\n"
                quiet_since = time.monotonic()
            if len(events) == _PAGE:
                continue
            if job is None or job.status in FINAL_JOB_STATUSES:
                return
            progress = json.dumps(
                {
                    "status": job.status,
                    "progress_percent": round(job.progress_percent, 1),
                    "stage": job.stage,
                    "message": job.message,
                }
            )
            if progress != last_progress and type_pattern is None:
                last_progress = progress
                yield f"event: job.progress\ndata: {progress}\n\n"
                quiet_since = time.monotonic()
            if time.monotonic() - quiet_since > _KEEP_ALIVE_SECONDS:
                yield ": still here\n\n"
                quiet_since = time.monotonic()
            await first_of(changed, stopping, seconds=_LOOK_SECONDS)
