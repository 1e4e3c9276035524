"""What pipelines have seen in their input, among the events of its job."""

import json
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.session import signal_after_commit
from app.db.signals import Channel, Signal
from app.jobs.tables import Attempt
from contract.attempts import DetectedEvent
from contract.events import PLATFORM_NAMESPACES

_INSERT = text("""
INSERT INTO job_events (job_id, attempt_id, type, data)
SELECT :job_id, :attempt_id, event ->> 'type', event -> 'data'
FROM jsonb_array_elements(CAST(:events AS jsonb)) WITH ORDINALITY AS told (event, place)
ORDER BY place
""")
_DELETE = text("""
DELETE FROM job_events
WHERE job_id = :job_id AND split_part(type, '.', 1) <> ALL(CAST(:namespaces AS text[]))
""")


async def record_detected(
    session: AsyncSession, job_id: UUID, attempt: Attempt, events: Sequence[DetectedEvent]
) -> None:
    """Write what a pipeline has seen, but for what was written before; wakes whoever watches.

    The caller holds the lock of the job, so that ids are in the order of what happened.
    """
    new = [event for event in events if event.sequence > attempt.last_event]
    if not new:
        return
    told = json.dumps([event.model_dump(include={"type", "data"}) for event in new])
    await session.execute(_INSERT, {"job_id": job_id, "attempt_id": attempt.id, "events": told})
    attempt.last_event = new[-1].sequence
    signal_after_commit(session, Signal(Channel.JOB_CHANGED, str(job_id)))


async def delete_detected(session: AsyncSession, job_id: UUID) -> None:
    """Forget what pipelines have seen in a job's input; its life cycle stays."""
    await session.execute(_DELETE, {"job_id": job_id, "namespaces": sorted(PLATFORM_NAMESPACES)})
