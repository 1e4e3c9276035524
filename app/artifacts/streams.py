"""Files that an attempt's worker uploads in parts while they are being made.

The ticket is written before storage is asked for an upload, and says for ever that there may be
one: so no part can lie in storage that nothing here knows of.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from app.artifacts.errors import (
    ArtifactCommittedError,
    ArtifactMismatchError,
    TicketNotFoundError,
    UploadTooLargeError,
)
from app.artifacts.tables import UploadTicket
from app.artifacts.tickets import ARTIFACT_TICKET_LIFE, write_ticket
from app.config import Settings
from app.jobs.fence import RunningAttempt
from app.jobs.lifecycle import AttemptStatus
from app.jobs.tables import Attempt
from contract.streams import (
    MOST_PARTS,
    PART_BYTES,
    StreamCompletion,
    StreamPartsRequest,
    StreamRequest,
)

_KEEP_STREAMED = timedelta(days=7)
"""Since the parts may be all there is of a finished run whose worker cannot reach the API. An
attempt that has ended loses them within minutes."""


async def create_stream_ticket(
    connection: AsyncConnection, attempt: RunningAttempt, request: StreamRequest
) -> Row[Any]:
    """Permission for an attempt to upload one file in parts.

    Raises:
        ArtifactMismatchError, ArtifactCommittedError, UploadTooLargeError: as
            `create_artifact_ticket`.
    """
    return await write_ticket(connection, attempt, request, {}, keep=_KEEP_STREAMED)


async def note_upload(connection: AsyncConnection, ticket_id: UUID, upload_id: str) -> None:
    """Write down which upload in parts is under way for a ticket."""
    await connection.execute(
        update(UploadTicket)
        .where(UploadTicket.id == ticket_id, UploadTicket.keep_until.is_not(None))
        .values(upload_id=upload_id)
    )


def most_parts(settings: Settings) -> int:
    """How many parts a streamed file can have."""
    return min(-(-settings.max_artifact_bytes // PART_BYTES), MOST_PARTS)


async def find_stream(
    connection: AsyncConnection, settings: Settings, attempt_id: UUID, asked: StreamPartsRequest
) -> Row[Any]:
    """The ticket whose parts are to be uploaded, which is kept for longer by that.

    Raises:
        TicketNotFoundError: the attempt has no such upload under way.
        UploadTooLargeError: so many parts are more bytes than a file may have.
    """
    if asked.first > most_parts(settings):
        raise UploadTooLargeError(
            f"Part {asked.first} lies behind the {settings.max_artifact_bytes} bytes that a file"
            " can have."
        )
    expires_at = datetime.now(UTC) + ARTIFACT_TICKET_LIFE
    ticket = (
        await connection.execute(
            update(UploadTicket)
            .where(
                UploadTicket.id == asked.ticket_id,
                UploadTicket.attempt_id == attempt_id,
                UploadTicket.upload_id.is_not(None),
            )
            .values(expires_at=expires_at, keep_until=expires_at + _KEEP_STREAMED)
            .returning(UploadTicket)
        )
    ).one_or_none()
    if ticket is None:
        raise TicketNotFoundError
    return ticket


async def promise_content(
    connection: AsyncConnection, settings: Settings, attempt_id: UUID, completion: StreamCompletion
) -> Row[Any]:
    """The ticket of a file that is finished, with the size and SHA-256 that it should have.

    Raises:
        TicketNotFoundError: the attempt has no such streamed file.
        ArtifactMismatchError: so many parts cannot be so many bytes.
        ArtifactCommittedError: it is committed with other content.
        UploadTooLargeError: it has more bytes than a file may have.
    """
    size = completion.size_bytes
    if size > settings.max_artifact_bytes:
        raise UploadTooLargeError(
            f"The file has {size} bytes; at most {settings.max_artifact_bytes} are accepted."
        )
    needed = -(-size // PART_BYTES)
    if needed != len(completion.etags):
        raise ArtifactMismatchError(
            f"{size} bytes are {needed} parts of {PART_BYTES}, not {len(completion.etags)}."
        )
    promise = {"size_bytes": size, "sha256": completion.sha256}
    ours = (
        UploadTicket.id == completion.ticket_id,
        UploadTicket.attempt_id == attempt_id,
        UploadTicket.streamed,
    )
    ticket = (
        await connection.execute(
            update(UploadTicket)
            .where(*ours, UploadTicket.keep_until.is_not(None))
            .values(promise)
            .returning(UploadTicket)
        )
    ).one_or_none()
    if ticket is not None:
        return ticket
    committed = (await connection.execute(select(UploadTicket).where(*ours))).one_or_none()
    if committed is None:
        raise TicketNotFoundError
    if (committed.size_bytes, committed.sha256) != (size, completion.sha256):
        raise ArtifactCommittedError
    return committed


async def find_abandoned(session: AsyncSession, limit: int) -> Sequence[Row[UUID, str, str | None]]:
    """Uploads in parts (`id`, `object_key`, `upload_id`) whose attempt has ended."""
    return (
        await session.execute(
            select(UploadTicket.id, UploadTicket.object_key, UploadTicket.upload_id)
            .join(Attempt, Attempt.id == UploadTicket.attempt_id)
            .where(
                UploadTicket.upload_id.is_not(None), Attempt.status != AttemptStatus.RUNNING.value
            )
            .limit(limit)
        )
    ).all()


async def forget_upload(session: AsyncSession, ticket_id: UUID, upload_id: str | None) -> None:
    """Note that an upload in parts is not under way any more."""
    await session.execute(
        update(UploadTicket)
        .where(UploadTicket.id == ticket_id, UploadTicket.upload_id == upload_id)
        .values(upload_id=None)
        .execution_options(synchronize_session=False)
    )
