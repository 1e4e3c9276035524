"""A job as its user sees it: the row, its previews and the estimates."""

from dataclasses import dataclass

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.db.session import Database
from app.jobs.lifecycle import JobStatus
from app.jobs.schemas import JobOut
from app.jobs.service import model_of
from app.jobs.submission import Submitted
from app.jobs.tables import Job
from app.workers.service import live_fleet


@dataclass(frozen=True, slots=True)
class Answer:
    """The body of an answer in JSON, and headers to send with it."""

    body: bytes
    headers: list[tuple[str, str]]


async def answer_submission(database: Database, settings: Settings, submitted: Submitted) -> Answer:
    """What to answer to a request that has made a job, now or when it was first sent."""
    job = submitted.job
    structlog.contextvars.bind_contextvars(job_id=str(job.id))
    headers = [("Location", f"/api/v1/jobs/{job.id}")]
    if submitted.replayed:
        headers.append(("Idempotency-Replayed", "true"))
        async with database.transaction() as session:
            warning = await _waiting_job_warning(session, settings, job)
    else:
        warning = no_worker_warning(job.model_id) if submitted.served is False else None
    return Answer(JobOut.of(job, warning=warning).model_dump_json().encode(), headers)


async def _waiting_job_warning(session: AsyncSession, settings: Settings, job: Job) -> str | None:
    if job.status != JobStatus.QUEUED:
        return None
    model = await model_of(session, job)
    fleet = await live_fleet(session, settings.worker_live_seconds)
    return None if fleet.serving(model.queue, model.pipeline) else no_worker_warning(model.id)


def no_worker_warning(model_id: str) -> str:
    """What to tell the user of a waiting job whose model no live worker serves."""
    return f"No live worker serves {model_id} now; the job waits until one does."
