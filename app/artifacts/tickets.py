"""Permission for an attempt's worker to upload one file."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Row, and_, case, func, literal, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.artifacts.errors import (
    ArtifactCommittedError,
    ArtifactMismatchError,
    UploadTooLargeError,
)
from app.artifacts.inspection import refused_type
from app.artifacts.names import artifact_key
from app.artifacts.tables import UploadTicket
from app.config import Settings
from app.db.base import new_id
from app.jobs.fence import RunningAttempt
from contract.artifacts import UploadTicketRequest
from contract.streams import StreamRequest

ARTIFACT_TICKET_LIFE = timedelta(minutes=5)
"""Short, because a PUT after the commit would replace what was checked."""

_MAX_ARTIFACTS = 1000
_KEEP_UNCOMMITTED = timedelta(days=1)


async def create_artifact_ticket(
    connection: AsyncConnection,
    settings: Settings,
    attempt: RunningAttempt,
    request: UploadTicketRequest,
) -> Row[Any]:
    """Permission for an attempt to upload one file; asked again, the same with new promises.

    A ticket shows nobody anything, so it does no harm if the attempt ends in the same moment; its
    uncommitted object is deleted in time.

    Raises:
        ArtifactMismatchError: nothing of this kind is of this media type.
        ArtifactCommittedError: an artifact of this name is committed with other content.
        UploadTooLargeError: more bytes or more files than a run may make.
    """
    if request.size_bytes > settings.max_artifact_bytes:
        raise UploadTooLargeError(
            f"{request.name} has {request.size_bytes} bytes; "
            f"at most {settings.max_artifact_bytes} are accepted."
        )
    return await write_ticket(
        connection,
        attempt,
        request,
        {"size_bytes": request.size_bytes, "sha256": request.sha256},
        keep=_KEEP_UNCOMMITTED,
    )


async def write_ticket(
    connection: AsyncConnection,
    attempt: RunningAttempt,
    request: UploadTicketRequest | StreamRequest,
    content: dict[str, Any],
    *,
    keep: timedelta,
) -> Row[Any]:
    """Write down a ticket, in place of an earlier one of the same name that is not committed.

    Args:
        connection: outside a transaction.
        attempt: whose it is.
        request: what is to be uploaded.
        content: what is promised of it; nothing of a file that is streamed.
        keep: how long an object that is not committed is kept.

    Raises:
        ArtifactMismatchError, ArtifactCommittedError, UploadTooLargeError: as
            `create_artifact_ticket`.
    """
    refusal = refused_type(request.kind, request.media_type)
    if refusal:
        raise ArtifactMismatchError(f"{request.name} {refusal}.")
    now = datetime.now(UTC)
    promise = {
        "kind": request.kind.value,
        "media_type": request.media_type,
        "size_bytes": None,
        "sha256": None,
        **content,
    }
    others = (
        select(func.count())
        .select_from(UploadTicket)
        .where(UploadTicket.attempt_id == attempt.id, UploadTicket.name != request.name)
        .scalar_subquery()
    )
    values = {
        "id": new_id(),
        "user_id": attempt.user_id,
        "attempt_id": attempt.id,
        "object_key": artifact_key(attempt.job_id, attempt.id, request.name),
        "name": request.name,
        "expires_at": now + ARTIFACT_TICKET_LIFE,
        "keep_until": now + ARTIFACT_TICKET_LIFE + keep,
        "streamed": not content,
        **promise,
    }
    columns = UploadTicket.__table__.c
    row = select(*(literal(value, columns[name].type) for name, value in values.items()))
    statement = insert(UploadTicket).from_select([*values], row.where(others < _MAX_ARTIFACTS))
    # Decided by the row as it is when it is written: it may be committed in the same moment.
    is_committed = UploadTicket.keep_until.is_(None)
    ticket = (
        await connection.execute(
            statement.on_conflict_do_update(
                index_elements=["attempt_id", "name"],
                index_where=UploadTicket.attempt_id.is_not(None),
                set_={
                    **promise,
                    "expires_at": statement.excluded.expires_at,
                    "keep_until": case((is_committed, None), else_=statement.excluded.keep_until),
                    # Once streamed, storage may hold parts of it.
                    "streamed": or_(UploadTicket.streamed, statement.excluded.streamed),
                },
                where=or_(
                    ~is_committed,
                    and_(*(getattr(UploadTicket, key) == promise[key] for key in promise)),
                ),
            ).returning(UploadTicket)
        )
    ).one_or_none()
    if ticket is not None:
        return ticket
    if (await connection.execute(select(others))).scalar_one() >= _MAX_ARTIFACTS:
        raise UploadTooLargeError(f"An attempt can upload at most {_MAX_ARTIFACTS} files.")
    raise ArtifactCommittedError
