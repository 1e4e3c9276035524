"""Which artifacts of a job people see, and which an attempt begins with."""

from collections.abc import Sequence

from sqlalchemy import and_, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.artifacts.tables import Artifact
from app.jobs.lifecycle import JobStatus
from app.jobs.tables import Attempt, Job
from contract.kinds import ArtifactKind


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


async def find_given(
    session: AsyncSession, attempt: Attempt
) -> tuple[list[Artifact], Artifact | None]:
    """The job's inputs, and the newest checkpoint of its other attempts, to go on from."""
    found = (
        await session.execute(
            select(Artifact)
            .where(
                Artifact.job_id == attempt.job_id,
                or_(
                    Artifact.attempt_id.is_(None),
                    and_(
                        Artifact.kind == ArtifactKind.CHECKPOINT,
                        Artifact.attempt_id != attempt.id,
                    ),
                ),
            )
            .order_by(Artifact.parameter, Artifact.created_at.desc())
        )
    ).scalars()
    inputs: list[Artifact] = []
    checkpoint = None
    for artifact in found:
        if artifact.attempt_id is None:
            inputs.append(artifact)
        else:
            checkpoint = checkpoint or artifact
    return inputs, checkpoint
