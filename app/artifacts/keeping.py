"""Which objects are kept: those of tickets without a `keep_until`, because a job refers to them."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Row, delete, exists, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.artifacts.tables import Artifact, UploadTicket
from app.jobs.lifecycle import JobStatus
from app.jobs.tables import Job

_DROP_CHECKPOINTS = text("""
WITH dropped AS (
    DELETE FROM artifacts
    WHERE job_id = :job_id AND kind = 'checkpoint' AND id <> ALL(CAST(:but AS uuid[]))
    RETURNING object_key
)
UPDATE upload_tickets ticket SET keep_until = now() FROM dropped
WHERE ticket.object_key = dropped.object_key
""")


async def drop_checkpoints(session: AsyncSession, job_id: UUID, but: Sequence[UUID] = ()) -> None:
    """Forget a job's checkpoints, but for some; retention deletes their objects.

    The caller holds the lock of the job.
    """
    await session.execute(_DROP_CHECKPOINTS, {"job_id": job_id, "but": list(but)})


async def let_go(session: AsyncSession, job_id: UUID) -> None:
    """Let the objects of an expired job be deleted, but for those that another job still needs."""
    keys = (
        (
            await session.execute(
                select(UploadTicket.object_key)
                .where(
                    UploadTicket.object_key.in_(
                        select(Artifact.object_key).where(Artifact.job_id == job_id)
                    )
                )
                .order_by(UploadTicket.object_key)
                .with_for_update()
            )
        )
        .scalars()
        .all()
    )
    # In a statement of its own: it sees the jobs that were created before the locks were granted.
    still_needed = exists().where(
        Artifact.object_key == UploadTicket.object_key,
        Artifact.job_id == Job.id,
        Job.id != job_id,
        Job.status != JobStatus.EXPIRED.value,
    )
    await session.execute(
        update(UploadTicket)
        .where(UploadTicket.object_key.in_(keys), ~still_needed)
        .values(keep_until=func.now())
        .execution_options(synchronize_session=False)
    )


async def find_unkept(session: AsyncSession, limit: int) -> Sequence[Row[str, bool]]:
    """Objects (`object_key`, `streamed`) that nothing refers to and nobody may use any more."""
    return (
        await session.execute(
            select(UploadTicket.object_key, UploadTicket.streamed)
            .where(UploadTicket.keep_until < func.now())
            .order_by(UploadTicket.keep_until)
            .limit(limit)
        )
    ).all()


async def find_unknown(session: AsyncSession, keys: Sequence[str]) -> set[str]:
    """Those of some objects' keys for which there has never been a ticket, or is none any more."""
    known = await session.execute(
        select(UploadTicket.object_key).where(UploadTicket.object_key.in_(keys))
    )
    return set(keys).difference(known.scalars())


async def forget(session: AsyncSession, keys: list[str]) -> None:
    """Drop the tickets of deleted objects, unless they were asked for again meanwhile."""
    await session.execute(
        delete(UploadTicket).where(
            UploadTicket.object_key.in_(keys), UploadTicket.keep_until < func.now()
        )
    )
