"""Which artifacts of a job people see."""

from collections.abc import Sequence

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.artifacts.tables import Artifact
from app.jobs.lifecycle import JobStatus
from app.jobs.tables import Job


async def visible_artifacts(session: AsyncSession, job: Job) -> Sequence[Artifact]:
    """The job's inputs and what its current attempt has made, oldest first.

    While a job waits it has no current attempt: what a failed one left is not a result.
    """
    made_by = None if job.status == JobStatus.QUEUED else job.current_attempt_id
    return (
        (
            await session.execute(
                select(Artifact)
                .where(
                    Artifact.job_id == job.id,
                    or_(
                        Artifact.attempt_id.is_(None),
                        Artifact.attempt_id == made_by,
                    ),
                )
                .order_by(Artifact.id)
            )
        )
        .scalars()
        .all()
    )
