"""A job as its user sees it: the row, its previews and the estimates."""

from sqlalchemy.ext.asyncio import AsyncSession

from app.artifacts.service import visible_artifacts
from app.catalog.tables import Model
from app.config import Settings
from app.jobs.estimates import estimate_waiting_job, median_run_seconds, remaining_seconds
from app.jobs.lifecycle import JobStatus
from app.jobs.schemas import JobOut, PreviewOut
from app.jobs.service import model_of
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
            warning=missing_worker_warning(fleet, await model_of(session, job)),
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


def missing_worker_warning(fleet: Fleet, model: Model) -> str | None:
    """What to tell the user of a waiting job whose model nobody serves; None if somebody does."""
    if fleet.serving(model.queue, model.pipeline):
        return None
    return f"No live worker serves {model.id} now; the job waits until one does."


async def waiting_job_warning(session: AsyncSession, settings: Settings, job: Job) -> str | None:
    """The same for a job as it is now; None unless it waits."""
    if job.status != JobStatus.QUEUED:
        return None
    fleet = await live_fleet(session, settings.worker_live_seconds)
    return missing_worker_warning(fleet, await model_of(session, job))
