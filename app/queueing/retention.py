"""Retention: what is old expires, row first and objects after; what nobody uses is deleted.

A crash between the two leaves objects, never a row that promises what is gone. Tickets are the
list of every object there ever was a permission for, so nothing can be forgotten.
"""

from dataclasses import dataclass

from sqlalchemy import text

from app.artifacts.keeping import find_unkept, forget
from app.artifacts.streams import find_abandoned, forget_upload
from app.db.session import Database
from app.jobs.expiry import expire_job
from app.jobs.repository import find_expired_jobs
from app.logs import get_logger
from app.storage.base import ObjectStore

log = get_logger(__name__)

_BATCH = 200

_DUE = text("""
WITH due AS (
    SELECT id FROM jobs
    WHERE expires_at < now() AND status IN ('SUCCEEDED', 'FAILED', 'CANCELLED')
), left_behind AS (
    SELECT object_key FROM artifacts WHERE job_id IN (SELECT id FROM due)
    EXCEPT
    SELECT artifacts.object_key FROM artifacts JOIN jobs ON jobs.id = artifacts.job_id
    WHERE jobs.status <> 'EXPIRED' AND jobs.id NOT IN (SELECT id FROM due)
      AND artifacts.object_key IN (
        SELECT object_key FROM artifacts WHERE job_id IN (SELECT id FROM due))
), gone AS (
    SELECT object_key, size_bytes FROM upload_tickets
    WHERE keep_until < now() OR object_key IN (SELECT object_key FROM left_behind)
)
SELECT (SELECT count(*) FROM due) AS jobs, count(*) AS objects,
    coalesce(sum(size_bytes), 0)::bigint AS bytes
FROM gone
""")


@dataclass(frozen=True)
class Due:
    """What retention would do now, if it ran until nothing is left to do."""

    jobs: int
    objects: int
    bytes: int


async def preview(database: Database) -> Due:
    """What is due now; nothing is changed.

    Objects are those that the jobs leave behind, and those that nobody has used in time. An upload
    of unknown size counts as empty.
    """
    async with database.transaction() as session:
        row = (await session.execute(_DUE)).one()
    return Due(row.jobs, row.objects, row.bytes)


async def expire_jobs(database: Database) -> int:
    """Move jobs whose retention is over to EXPIRED; returns how many."""
    expired = 0
    async with database.transaction() as session:
        for job_id in await find_expired_jobs(session, _BATCH):
            if await expire_job(session, job_id) is not None:
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
        unkept = await find_unkept(session, _BATCH)
    if not unkept:
        return 0
    for row in unkept:
        if row.streamed:
            await store.abort_multiparts(row.object_key)
    keys = [row.object_key for row in unkept]
    remaining = set(await store.delete(keys))
    deleted = [key for key in keys if key not in remaining]
    async with database.transaction() as session:
        await forget(session, deleted)
    log.info("objects deleted", objects=len(deleted), remaining=len(remaining))
    return len(deleted)


async def abort_abandoned_uploads(database: Database, store: ObjectStore) -> int:
    """Drop the parts that attempts which have ended left in storage; returns of how many files.

    Their tickets stay until their time is over, and are looked up once more then: whatever was
    still under way when the attempt ended is found at the latest there.
    """
    async with database.transaction() as session:
        abandoned = await find_abandoned(session, _BATCH)
    for upload in abandoned:
        await store.abort_multiparts(upload.object_key)
        async with database.transaction() as session:
            await forget_upload(session, upload.id, upload.upload_id)
    if abandoned:
        log.info("uploads aborted", uploads=len(abandoned))
    return len(abandoned)
