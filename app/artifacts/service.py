"""Artifacts: what a worker uploads, checked before anybody sees it, and finding it again."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.artifacts.errors import (
    ArtifactCommittedError,
    ArtifactMismatchError,
    ArtifactNotUploadedError,
    TicketNotFoundError,
    UploadTooLargeError,
)
from app.artifacts.inspection import HEAD_BYTES, contradicts
from app.artifacts.names import artifact_key
from app.artifacts.tables import Artifact, UploadTicket
from app.config import Settings
from app.db.base import new_id
from app.db.session import Database
from app.jobs.attempts import AttemptService
from app.jobs.repository import record_event
from app.jobs.tables import Attempt, Job
from app.storage.base import ObjectStore
from contract.artifacts import ArtifactKind, UploadTicketRequest

_MAX_ARTIFACTS = 1000
_KEEP_UNCOMMITTED = timedelta(days=1)


async def create_artifact_ticket(
    session: AsyncSession,
    settings: Settings,
    job: Job,
    attempt: Attempt,
    request: UploadTicketRequest,
) -> UploadTicket:
    """Permission for an attempt to upload one file; asked again, the same with new promises.

    Raises:
        ArtifactCommittedError: an artifact of this name is committed with other content.
        UploadTooLargeError: more bytes or more files than a run may make.
    """
    if request.size_bytes > settings.max_artifact_bytes:
        raise UploadTooLargeError(
            f"{request.name} has {request.size_bytes} bytes; "
            f"at most {settings.max_artifact_bytes} are accepted."
        )
    committed = (
        await session.execute(
            select(Artifact).where(Artifact.attempt_id == attempt.id, Artifact.name == request.name)
        )
    ).scalar_one_or_none()
    if committed and committed.sha256 != request.sha256:
        raise ArtifactCommittedError
    count = (
        await session.execute(
            select(func.count())
            .select_from(UploadTicket)
            .where(UploadTicket.attempt_id == attempt.id)
        )
    ).scalar_one()
    if count >= _MAX_ARTIFACTS:
        raise UploadTooLargeError(f"An attempt can upload at most {_MAX_ARTIFACTS} files.")
    now = datetime.now(UTC)
    values = {
        "kind": request.kind.value,
        "media_type": request.media_type,
        "size_bytes": request.size_bytes,
        "sha256": request.sha256,
        "expires_at": now + timedelta(seconds=settings.upload_ticket_seconds),
        "keep_until": now + timedelta(seconds=settings.upload_ticket_seconds) + _KEEP_UNCOMMITTED,
    }
    return (
        await session.execute(
            insert(UploadTicket)
            .values(
                id=new_id(),
                user_id=job.user_id,
                attempt_id=attempt.id,
                object_key=artifact_key(job.id, attempt.id, request.name),
                name=request.name,
                **values,
            )
            .on_conflict_do_update(
                index_elements=["attempt_id", "name"],
                index_where=UploadTicket.attempt_id.is_not(None),
                set_=values,
            )
            .returning(UploadTicket)
            .execution_options(populate_existing=True)
        )
    ).scalar_one()


async def commit_artifact(
    database: Database,
    store: ObjectStore,
    settings: Settings,
    *,
    attempt_id: UUID,
    token: str,
    ticket_id: UUID,
) -> Artifact:
    """Check an uploaded object and make it visible; the same commit again answers the same.

    Storage is asked between two short transactions, so that a slow store holds no connection.

    Raises:
        TicketNotFoundError: this attempt has no such ticket.
        ArtifactNotUploadedError: the object is not in storage.
        ArtifactMismatchError: its size, SHA-256 or first bytes are not what was promised.
        AttemptSupersededError, AttemptGoneError, AttemptTokenError: not this worker's any more.
    """
    async with database.transaction() as session:
        await AttemptService(session, settings).lock_running(attempt_id, token)
        ticket = await session.get(UploadTicket, ticket_id)
        if ticket is None or ticket.attempt_id != attempt_id:
            raise TicketNotFoundError
        committed = await session.get(Artifact, ticket_id)
        if committed:
            return committed
    etag = await _check_object(store, ticket)
    async with database.transaction() as session:
        job, _ = await AttemptService(session, settings).lock_running(attempt_id, token)
        committed = await session.get(Artifact, ticket_id)
        if committed:
            return committed
        artifact = Artifact(
            id=ticket.id,
            job_id=job.id,
            attempt_id=attempt_id,
            kind=ticket.kind,
            name=ticket.name,
            media_type=ticket.media_type,
            size_bytes=ticket.size_bytes or 0,
            sha256=ticket.sha256,
            etag=etag,
            object_key=ticket.object_key,
        )
        session.add(artifact)
        await session.flush()
        event = "preview.added" if ticket.kind == ArtifactKind.PREVIEW else "artifact.added"
        await record_event(
            session,
            job.id,
            event,
            attempt_id=attempt_id,
            data={"artifact_id": str(ticket.id), "name": ticket.name, "kind": ticket.kind},
        )
        return artifact


async def _check_object(store: ObjectStore, ticket: UploadTicket) -> str:
    found = await store.stat(ticket.object_key)
    if found is None:
        raise ArtifactNotUploadedError(
            f"{ticket.name} is not in storage. Upload it with its ticket before committing."
        )
    if found.size_bytes != ticket.size_bytes:
        raise ArtifactMismatchError(
            f"{ticket.name} has {found.size_bytes} bytes; {ticket.size_bytes} were promised."
        )
    head = await store.read_start(ticket.object_key, HEAD_BYTES)
    contradiction = contradicts(ticket.media_type, head, is_whole=found.size_bytes <= HEAD_BYTES)
    if contradiction:
        raise ArtifactMismatchError(f"{ticket.name} {contradiction}.")
    # A small file has been read already, all of it.
    digest = (
        hashlib.sha256(head).hexdigest()
        if len(head) == found.size_bytes
        else await store.sha256(ticket.object_key)
    )
    if digest != ticket.sha256:
        raise ArtifactMismatchError(f"The SHA-256 of {ticket.name} is not the promised one.")
    return found.etag


async def visible_artifacts(session: AsyncSession, job: Job) -> Sequence[Artifact]:
    """The job's inputs and what its current attempt has made, oldest first."""
    return (
        (
            await session.execute(
                select(Artifact)
                .where(
                    Artifact.job_id == job.id,
                    or_(
                        Artifact.attempt_id.is_(None),
                        Artifact.attempt_id == job.current_attempt_id,
                    ),
                )
                .order_by(Artifact.id)
            )
        )
        .scalars()
        .all()
    )
