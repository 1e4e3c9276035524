"""Retention: what is old expires, row first and objects after; what nobody uses is deleted.

A crash between the two leaves objects, never a row that promises what is gone. Tickets are the
list of every object there ever was a permission for, so nothing can be forgotten.
"""

from app.artifacts.keeping import find_unkept, forget, let_go
from app.db.session import Database
from app.jobs.detected import delete_detected
from app.jobs.lifecycle import JobStatus
from app.jobs.repository import find_expired_jobs, move_job
from app.logs import get_logger
from app.storage.base import ObjectStore

log = get_logger(__name__)

_BATCH = 200


async def expire_jobs(database: Database) -> int:
    """Move jobs whose retention is over to EXPIRED; returns how many.

    What pipelines have seen in their files goes with the files.
    """
    expired = 0
    async with database.transaction() as session:
        for job_id in await find_expired_jobs(session, _BATCH):
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
                expired += 1
    if expired:
        log.info("jobs expired", jobs=expired)
    return expired


async def delete_unused_objects(database: Database, store: ObjectStore) -> int:
    """Delete objects that no unexpired job refers to and that nobody may upload any more.

    Objects first, then the ticket that knows of them: a crash in between only means to delete
    again what is gone. Returns how many were deleted.
    """
    async with database.transaction() as session:
        keys = await find_unkept(session, _BATCH)
    if not keys:
        return 0
    remaining = set(await store.delete(keys))
    deleted = [key for key in keys if key not in remaining]
    async with database.transaction() as session:
        await forget(session, deleted)
    log.info("objects deleted", objects=len(deleted), remaining=len(remaining))
    return len(deleted)
