"""The end of a job's files: the row says so first, and then retention deletes them."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.artifacts.keeping import let_go
from app.jobs.detected import delete_detected
from app.jobs.lifecycle import JobStatus
from app.jobs.repository import move_job
from app.jobs.tables import Job


async def expire_job(session: AsyncSession, job_id: UUID) -> Job | None:
    """Move a job that has ended to EXPIRED and let its objects be deleted.

    What pipelines have seen in its files goes with them. None if it has not ended, or had expired.
    """
    job = await move_job(
        session,
        job_id,
        JobStatus.EXPIRED,
        expected={JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED},
        event_type="job.expired",
    )
    if job is not None:
        await let_go(session, job_id)
        await delete_detected(session, job_id)
    return job
