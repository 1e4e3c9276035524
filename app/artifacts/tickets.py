"""Permission for an attempt's worker to upload one file."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Row, bindparam, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.artifacts.errors import (
    ArtifactCommittedError,
    ArtifactMismatchError,
    UploadTooLargeError,
)
from app.artifacts.inspection import refused_type
from app.artifacts.names import artifact_key
from app.artifacts.tables import Artifact, UploadTicket
from app.config import Settings
from app.db.base import new_id
from app.jobs.fence import RunningAttempt
from contract.artifacts import UploadTicketRequest

ARTIFACT_TICKET_LIFE = timedelta(minutes=5)
"""Short, because a PUT after the commit would replace what was checked."""

_MAX_ARTIFACTS = 1000
_KEEP_UNCOMMITTED = timedelta(days=1)

_SO_FAR = select(
    select(Artifact.sha256)
    .where(Artifact.attempt_id == bindparam("attempt_id"), Artifact.name == bindparam("name"))
    .scalar_subquery()
    .label("committed"),
    select(func.count())
    .select_from(UploadTicket)
    .where(
        UploadTicket.attempt_id == bindparam("attempt_id"),
        UploadTicket.name != bindparam("name"),
    )
    .scalar_subquery()
    .label("others"),
)


async def create_artifact_ticket(
    connection: AsyncConnection,
    settings: Settings,
    attempt: RunningAttempt,
    request: UploadTicketRequest,
) -> Row[Any]:
    """Permission for an attempt to upload one file; asked again, the same with new promises.

    A ticket shows nobody anything, so it does no harm if the attempt ends in the same moment.

    Raises:
        ArtifactMismatchError: nothing of this kind is of this media type.
        ArtifactCommittedError: an artifact of this name is committed with other content.
        UploadTooLargeError: more bytes or more files than a run may make.
    """
    refusal = refused_type(request.kind, request.media_type)
    if refusal:
        raise ArtifactMismatchError(f"{request.name} {refusal}.")
    if request.size_bytes > settings.max_artifact_bytes:
        raise UploadTooLargeError(
            f"{request.name} has {request.size_bytes} bytes; "
            f"at most {settings.max_artifact_bytes} are accepted."
        )
    so_far = (
        await connection.execute(_SO_FAR, {"attempt_id": attempt.id, "name": request.name})
    ).one()
    if so_far.committed not in {None, request.sha256}:
        raise ArtifactCommittedError
    if so_far.others >= _MAX_ARTIFACTS:
        raise UploadTooLargeError(f"An attempt can upload at most {_MAX_ARTIFACTS} files.")
    now = datetime.now(UTC)
    values = {
        "kind": request.kind.value,
        "media_type": request.media_type,
        "size_bytes": request.size_bytes,
        "sha256": request.sha256,
        "expires_at": now + ARTIFACT_TICKET_LIFE,
        "keep_until": now + ARTIFACT_TICKET_LIFE + _KEEP_UNCOMMITTED,
    }
    return (
        await connection.execute(
            insert(UploadTicket)
            .values(
                id=new_id(),
                user_id=attempt.user_id,
                attempt_id=attempt.id,
                object_key=artifact_key(attempt.job_id, attempt.id, request.name),
                name=request.name,
                **values,
            )
            .on_conflict_do_update(
                index_elements=["attempt_id", "name"],
                index_where=UploadTicket.attempt_id.is_not(None),
                set_=values | ({"keep_until": None} if so_far.committed else {}),
            )
            .returning(UploadTicket)
        )
    ).one()
