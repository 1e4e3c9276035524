"""What is known of jobs beside their rows: the uploaded video, and what its attempt measured."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy import and_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.artifacts.tables import Artifact
from app.jobs.lifecycle import AttemptStatus
from app.jobs.tables import Attempt, Job
from contract.containers import VIDEO_TYPES
from contract.kinds import ArtifactKind


@dataclass(frozen=True)
class Facts:
    """Of one job. The metrics are those that a successful attempt has reported."""

    filename: str | None = None
    size_bytes: int | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    run_seconds: float | None = None

    def whole(self, metric: str) -> int | None:
        """A metric that counts something."""
        value = self.metrics.get(metric)
        return None if value is None else round(value)

    @property
    def processing_time_seconds(self) -> float | None:
        """What the pipeline has measured or, if it has not, from the claim to the report."""
        return self.metrics.get("processing_time_seconds", self.run_seconds)


async def find_facts(session: AsyncSession, jobs: Sequence[Job]) -> dict[UUID, Facts]:
    """The facts of jobs, by their ids."""
    rows = await session.execute(
        select(
            Job.id,
            Artifact.name,
            Artifact.size_bytes,
            Attempt.metrics,
            Attempt.started_at,
            Attempt.finished_at,
        )
        .outerjoin(
            Artifact,
            and_(
                Artifact.job_id == Job.id,
                Artifact.kind == ArtifactKind.INPUT,
                Artifact.media_type.in_(VIDEO_TYPES),
            ),
        )
        .outerjoin(
            Attempt,
            and_(
                Attempt.id == Job.current_attempt_id,
                Attempt.status == AttemptStatus.SUCCEEDED.value,
            ),
        )
        .where(Job.id.in_([job.id for job in jobs]))
    )
    return {
        row.id: Facts(
            row.name,
            row.size_bytes,
            row.metrics or {},
            (row.finished_at - row.started_at).total_seconds() if row.finished_at else None,
        )
        for row in rows
    }
