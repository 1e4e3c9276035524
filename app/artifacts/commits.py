"""Committing: an uploaded object is checked and becomes an artifact that people see.

Storage is asked between short transactions, so that a slow store holds no connection and no lock.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from app.artifacts.errors import (
    ArtifactMismatchError,
    ArtifactNotUploadedError,
    TicketNotFoundError,
)
from app.artifacts.inspection import HEAD_BYTES, contradicts
from app.artifacts.keeping import drop_checkpoints
from app.artifacts.tables import Artifact, UploadTicket
from app.db.session import signal_after_commit
from app.db.signals import Channel, Signal
from app.storage.base import ObjectStore
from contract.kinds import ArtifactKind

# The promise is compared again, since the ticket may have been asked for anew meanwhile. What
# retention may delete at any moment, such as an outdated checkpoint, needs a new ticket.
CHECKED_TICKETS = """
checked AS (
    SELECT * FROM unnest(
        CAST(:ids AS uuid[]), CAST(:kinds AS text[]), CAST(:media_types AS text[]),
        CAST(:sizes AS bigint[]), CAST(:hashes AS text[]), CAST(:etags AS text[])
    ) WITH ORDINALITY AS t (id, kind, media_type, size_bytes, sha256, etag, place)
), kept AS MATERIALIZED (
    SELECT ticket.id, ticket.attempt_id, ticket.kind, ticket.name, ticket.media_type,
        ticket.size_bytes, ticket.sha256, ticket.object_key, checked.etag, checked.place
    FROM found CROSS JOIN checked JOIN upload_tickets ticket ON ticket.id = checked.id
    WHERE ticket.attempt_id = :attempt_id
      AND (ticket.kind, ticket.media_type, ticket.size_bytes, ticket.sha256)
        = (checked.kind, checked.media_type, checked.size_bytes, checked.sha256)
      AND (ticket.keep_until IS NULL OR ticket.keep_until > now())
    ORDER BY ticket.id
    FOR UPDATE OF ticket
)
"""
"""CTEs over `found`, the job: the tickets of `checked_values` that are still what was checked.

They are locked, and `kept` has them with their ETag and place."""

_COMMIT = text(f"""
WITH found AS (SELECT CAST(:job_id AS uuid) AS id), {CHECKED_TICKETS}, kept_for_good AS (
    UPDATE upload_tickets ticket SET keep_until = NULL, upload_id = NULL FROM kept
    WHERE ticket.id = kept.id
), made AS (
    INSERT INTO artifacts (id, job_id, attempt_id, kind, name, media_type, size_bytes, sha256,
        etag, object_key)
    SELECT id, :job_id, attempt_id, kind, name, media_type, size_bytes, sha256, etag, object_key
    FROM kept
    ON CONFLICT DO NOTHING
    RETURNING id, kind, name
), recorded AS (
    INSERT INTO job_events (job_id, attempt_id, type, data)
    SELECT :job_id, :attempt_id,
        CASE made.kind WHEN 'preview' THEN 'preview.added' ELSE 'artifact.added' END,
        jsonb_build_object('artifact_id', made.id, 'name', made.name, 'kind', made.kind)
    FROM made JOIN kept USING (id) ORDER BY kept.place
)
SELECT count(*) FROM kept
""")  # noqa: S608  (constants of ours)


@dataclass(frozen=True)
class CheckedObject:
    """An uploaded object that was found to be what its ticket promised."""

    ticket_id: UUID
    kind: ArtifactKind
    media_type: str
    size_bytes: int
    sha256: str
    etag: str

    @classmethod
    def of(cls, ticket: Row[Any], etag: str) -> "CheckedObject":
        """What a ticket promised and was found, with the ETag that it was found with."""
        return cls(
            ticket.id,
            ArtifactKind(ticket.kind),
            ticket.media_type,
            ticket.size_bytes,
            ticket.sha256,
            etag,
        )


async def find_tickets(
    connection: AsyncConnection, attempt_id: UUID, ticket_ids: Sequence[UUID]
) -> list[Row[Any]]:
    """Those of an attempt's tickets that have one of these ids, and whether each is `committed`."""
    rows: Iterable[Row[Any]] = await connection.execute(
        select(UploadTicket, Artifact.id.is_not(None).label("committed"))
        .outerjoin(Artifact, Artifact.id == UploadTicket.id)
        .where(UploadTicket.attempt_id == attempt_id, UploadTicket.id.in_(ticket_ids))
        .order_by(UploadTicket.id)
    )
    return [*rows]


async def check_object(store: ObjectStore, ticket: Row[Any]) -> CheckedObject:
    """Look at what really lies in storage.

    Raises:
        ArtifactNotUploadedError: nothing does.
        ArtifactMismatchError: its size, SHA-256 or first bytes are not what was promised.
        StorageUnavailableError: storage cannot be asked.
    """
    found = await store.read_start(ticket.object_key, HEAD_BYTES)
    if found is None:
        raise ArtifactNotUploadedError(
            f"{ticket.name} is not in storage. Upload it with its ticket before committing."
        )
    if found.size_bytes != ticket.size_bytes:
        raise ArtifactMismatchError(
            f"{ticket.name} has {found.size_bytes} bytes; {ticket.size_bytes} were promised."
        )
    contradiction = contradicts(ticket.media_type, found.head, is_whole=found.is_whole)
    if contradiction:
        raise ArtifactMismatchError(f"{ticket.name} {contradiction}.")
    # A small file has been read already, all of it.
    digest = (
        hashlib.sha256(found.head).hexdigest()
        if found.is_whole
        else await store.sha256(ticket.object_key)
    )
    if digest != ticket.sha256:
        raise ArtifactMismatchError(f"The SHA-256 of {ticket.name} is not the promised one.")
    return CheckedObject.of(ticket, found.etag)


def checked_values(objects: Sequence[CheckedObject]) -> dict[str, list[Any]]:
    """What was checked, as `CHECKED_TICKETS` takes it."""
    return {
        "ids": [checked.ticket_id for checked in objects],
        "kinds": [checked.kind.value for checked in objects],
        "media_types": [checked.media_type for checked in objects],
        "sizes": [checked.size_bytes for checked in objects],
        "hashes": [checked.sha256 for checked in objects],
        "etags": [checked.etag for checked in objects],
    }


async def commit_objects(
    session: AsyncSession, job_id: UUID, attempt_id: UUID, objects: Sequence[CheckedObject]
) -> None:
    """Make checked objects artifacts, with an event each; those that are already stay as they are.

    A checkpoint takes the place of every earlier one of the job.

    The caller holds the lock of the job and has checked that it is the attempt's.

    Raises:
        TicketNotFoundError: a ticket has been asked for again meanwhile, for another content, or
            its object is not kept any more.
    """
    if not objects:
        return
    values = {"job_id": job_id, "attempt_id": attempt_id, **checked_values(objects)}
    kept: int = (await session.execute(_COMMIT, values)).scalar_one()
    if kept < len(objects):
        raise TicketNotFoundError
    checkpoints = [item.ticket_id for item in objects if item.kind is ArtifactKind.CHECKPOINT]
    if checkpoints:
        await drop_checkpoints(session, job_id, but=checkpoints)
    signal_after_commit(session, Signal(Channel.JOB_CHANGED, str(job_id)))
