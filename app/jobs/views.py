"""A job as its user sees it: the row, its previews and the estimates."""

from dataclasses import dataclass

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app.artifacts.service import visible_artifacts
from app.catalog.tables import Model
from app.config import Settings
from app.db.session import Database
from app.jobs.estimates import estimate_waiting_job, median_run_seconds, remaining_seconds
from app.jobs.lifecycle import JobStatus
from app.jobs.schemas import JobOut, PreviewOut
from app.jobs.service import model_of
from app.jobs.submission import Submitted
from app.jobs.tables import Job
from app.storage.base import ObjectStore
from app.workers.service import Fleet, live_fleet
from contract.kinds import ArtifactKind


async def present_job(
    session: AsyncSession, store: ObjectStore, settings: Settings, job: Job
) -> JobOut:
    """The full view of one job."""
    if job.status == JobStatus.QUEUED:
        fleet = await live_fleet(session, settings.worker_live_seconds)
        return JobOut.of(
            job,
            estimate=await estimate_waiting_job(session, job, fleet),
            warning=_missing_worker_warning(fleet, await model_of(session, job)),
        )
    previews = []
    if job.status != JobStatus.EXPIRED:
        previews = [
            PreviewOut(
                name=artifact.name,
                media_type=artifact.media_type,
                url=store.presign_get(
                    artifact.object_key,
                    settings.download_url_seconds,
                    media_type=artifact.media_type,
                ),
            )
            for artifact in await visible_artifacts(session, job)
            if artifact.kind == ArtifactKind.PREVIEW
        ]
    eta = None
    if job.status == JobStatus.RUNNING:
        typical = await median_run_seconds(session, job.model_id)
        eta = remaining_seconds(typical, job.progress_percent)
    return JobOut.of(job, previews=previews, eta_seconds=eta)


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
        warning = None if submitted.served else _no_worker_warning(job.model_id)
    return Answer(JobOut.of(job, warning=warning).model_dump_json().encode(), headers)


async def _waiting_job_warning(session: AsyncSession, settings: Settings, job: Job) -> str | None:
    if job.status != JobStatus.QUEUED:
        return None
    fleet = await live_fleet(session, settings.worker_live_seconds)
    return _missing_worker_warning(fleet, await model_of(session, job))


def _missing_worker_warning(fleet: Fleet, model: Model) -> str | None:
    if fleet.serving(model.queue, model.pipeline):
        return None
    return _no_worker_warning(model.id)


def _no_worker_warning(model_id: str) -> str:
    return f"No live worker serves {model_id} now; the job waits until one does."
