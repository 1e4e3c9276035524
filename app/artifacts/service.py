"""Which artifacts of a job people see, and which an attempt begins with."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, and_, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from app.artifacts.tables import Artifact
from app.jobs.lifecycle import JobStatus
from app.jobs.tables import Job
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
    connection: AsyncConnection, job_id: UUID, attempt_id: UUID
) -> tuple[list[Row[Any]], Row[Any] | None]:
    """The job's inputs, and the newest checkpoint of its other attempts, to go on from.

    Both with the columns of `Artifact`.
    """
    found = await connection.execute(
        select(Artifact)
        .where(
            Artifact.job_id == job_id,
            or_(
                Artifact.attempt_id.is_(None),
                and_(Artifact.kind == ArtifactKind.CHECKPOINT, Artifact.attempt_id != attempt_id),
            ),
        )
        .order_by(Artifact.parameter, Artifact.created_at.desc())
    )
    inputs: list[Row[Any]] = []
    checkpoint: Row[Any] | None = None
    for artifact in found:
        if artifact.attempt_id is None:
            inputs.append(artifact)
        else:
            checkpoint = checkpoint or artifact
    return inputs, checkpoint


async def find_result(
    session: AsyncSession, job_id: UUID
) -> tuple[Artifact | None, Artifact | None]:
    """A job's main artifact, and the manifest that says how it was made."""
    found = (
        await session.execute(
            select(Artifact, Artifact.id == Job.main_artifact_id)
            .join(Job, Job.id == Artifact.job_id)
            .where(
                Job.id == job_id,
                # One that has another job's files has no attempt, and neither have its artifacts.
                Artifact.attempt_id.is_not_distinct_from(Job.current_attempt_id),
                Artifact.kind != ArtifactKind.INPUT,
                or_(
                    Artifact.id == Job.main_artifact_id,
                    and_(
                        Artifact.kind == ArtifactKind.MANIFEST,
                        Artifact.media_type == "application/json",
                    ),
                ),
            )
            .order_by(Artifact.id)
        )
    ).all()
    main = next((artifact for artifact, is_main in found if is_main), None)
    manifest = next((artifact for artifact, is_main in found if not is_main), None)
    return main, manifest
