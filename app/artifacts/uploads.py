"""A user's uploads: the ticket, and the check before a job may use what was uploaded."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts.principal import Principal
from app.artifacts.errors import (
    ImageTooLargeError,
    UploadExpiredError,
    UploadMismatchError,
    UploadMissingError,
    UploadNotFoundError,
    UploadTooLargeError,
    UploadTypeError,
)
from app.artifacts.inspection import HEAD_BYTES, LONG_HEAD_BYTES, media_type_of, picture_size
from app.artifacts.names import safe_file_name, upload_key
from app.artifacts.tables import UploadTicket
from app.catalog.parameters import UploadParameter
from app.config import Settings
from app.db.base import new_id
from app.errors import AppError
from app.storage.base import ObjectStart, ObjectStore
from app.usage.service import UsageLimits
from contract.kinds import ArtifactKind


@dataclass(frozen=True)
class CheckedUpload:
    """An uploaded object that was found fit for a parameter."""

    ticket: UploadTicket
    parameter: UploadParameter
    size_bytes: int
    etag: str
    media_type: str

    def wrong(self, error: type[AppError]) -> AppError:
        """An error that names the parameter."""
        return _wrong(self.parameter, error)


async def create_upload_ticket(
    session: AsyncSession,
    principal: Principal,
    settings: Settings,
    usage: UsageLimits,
    *,
    filename: str,
    content_type: str,
    size_bytes: int | None,
    sha256: str | None,
    streamed: bool = False,
) -> UploadTicket:
    """Permission for a user to upload one file; `streamed` if this process does it, in parts.

    Raises:
        UploadTooLargeError: it is said to be larger than any model takes.
        QuotaExceededError: storage of the user's or the organisation's is used up.
    """
    if size_bytes is not None and size_bytes > settings.max_upload_bytes:
        raise UploadTooLargeError(
            f"The file has {size_bytes} bytes; at most {settings.max_upload_bytes} can be uploaded."
        )
    await usage.require_room_for_upload(session, principal, size_bytes or 0)
    ticket_id = new_id()
    now = datetime.now(UTC)
    ticket = UploadTicket(
        id=ticket_id,
        user_id=principal.user_id,
        object_key=upload_key(principal.user_id, ticket_id, filename),
        kind=ArtifactKind.INPUT,
        name=safe_file_name(filename),
        media_type=content_type,
        size_bytes=size_bytes,
        sha256=sha256,
        streamed=streamed,
        expires_at=now + timedelta(seconds=settings.upload_ticket_seconds),
        keep_until=now
        + timedelta(seconds=settings.upload_ticket_seconds + settings.upload_keep_seconds),
    )
    session.add(ticket)
    await session.flush()
    return ticket


async def find_upload(
    session: AsyncSession, principal: Principal, parameter: UploadParameter, object_name: str
) -> UploadTicket:
    """The caller's own ticket for an object. Another's is as unknown as one that never was.

    Raises:
        UploadNotFoundError: the caller has no such ticket.
        UploadExpiredError: what was uploaded is not kept any more.
    """
    ticket = (
        await session.execute(
            select(UploadTicket).where(
                UploadTicket.object_key == object_name,
                UploadTicket.user_id == principal.user_id,
                UploadTicket.attempt_id.is_(None),
            )
        )
    ).scalar_one_or_none()
    if ticket is None:
        raise _wrong(parameter, UploadNotFoundError)
    if ticket.keep_until is not None and ticket.keep_until < datetime.now(UTC):
        raise _wrong(parameter, UploadExpiredError)
    return ticket


async def check_upload(
    store: ObjectStore, ticket: UploadTicket, parameter: UploadParameter
) -> CheckedUpload:
    """Look at what really lies in storage.

    Raises:
        UploadMissingError, UploadExpiredError: nothing does.
        UploadTooLargeError, ImageTooLargeError: more than the model takes.
        UploadMismatchError: something else than the ticket promised.
        UploadTypeError: the first bytes are of no accepted type, whatever the name says.
        StorageUnavailableError: storage cannot be asked.
    """
    found = await store.read_start(ticket.object_key, HEAD_BYTES)
    if found is None:
        expired = ticket.expires_at < datetime.now(UTC)
        raise _wrong(parameter, UploadExpiredError if expired else UploadMissingError)
    if found.size_bytes > parameter.max_bytes:
        raise _wrong(
            parameter,
            UploadTooLargeError,
            f"The file has {found.size_bytes} bytes; at most {parameter.max_bytes} are accepted.",
        )
    if ticket.size_bytes is not None and found.size_bytes != ticket.size_bytes:
        raise _wrong(
            parameter,
            UploadMismatchError,
            f"The ticket promised {ticket.size_bytes} bytes, but {found.size_bytes} were "
            "uploaded. Upload the file again.",
        )
    if not found.size_bytes:
        raise _wrong(parameter, UploadTypeError, "The file is empty. Upload it again.")
    media_type = accepted_type(parameter, found.head)
    if parameter.max_pixels:
        await _check_picture_size(store, ticket, parameter, parameter.max_pixels, found)
    if ticket.sha256 is not None and await store.sha256(ticket.object_key) != ticket.sha256:
        raise _wrong(
            parameter,
            UploadMismatchError,
            "The SHA-256 of what was uploaded differs from the ticket's. Upload the file again.",
        )
    return CheckedUpload(ticket, parameter, found.size_bytes, found.etag, media_type)


def accepted_type(parameter: UploadParameter, head: bytes) -> str:
    """The media type of a file by its first bytes.

    Raises:
        UploadTypeError: the parameter does not take it.
    """
    media_type = media_type_of(head)
    if media_type is None or media_type not in parameter.accept:
        accepted = ", ".join(sorted(parameter.accept))
        raise _wrong(
            parameter,
            UploadTypeError,
            f"The file is {media_type or 'of unknown type'}, whatever its name says; "
            f"accepted are {accepted}.",
        )
    return media_type


async def drop_uploads(session: AsyncSession, ticket_ids: Sequence[UUID]) -> None:
    """Forget uploads whose objects were deleted, but for those that a job has taken meanwhile."""
    await session.execute(
        delete(UploadTicket).where(
            UploadTicket.id.in_(ticket_ids), UploadTicket.keep_until.is_not(None)
        )
    )


async def _check_picture_size(
    store: ObjectStore,
    ticket: UploadTicket,
    parameter: UploadParameter,
    max_pixels: int,
    found: ObjectStart,
) -> None:
    """Refuse a picture with too many pixels before anybody decodes it.

    Raises:
        UploadTypeError: its header does not say how large it is.
        ImageTooLargeError: it is too large.
    """
    size = picture_size(found.head)
    if size is None and not found.is_whole:
        # A JPEG may have a lot of other things first.
        longer = await store.read_start(ticket.object_key, LONG_HEAD_BYTES)
        size = picture_size(longer.head) if longer else None
    if size is None:
        raise _wrong(
            parameter,
            UploadTypeError,
            "The picture is damaged: its header does not say how large it is.",
        )
    if size[0] * size[1] > max_pixels:
        raise _wrong(
            parameter,
            ImageTooLargeError,
            f"The picture has {size[0]} x {size[1]} pixels; at most {max_pixels} in all are "
            "accepted. Send a smaller one.",
        )


def _wrong(
    parameter: UploadParameter, error: type[AppError], detail: str | None = None
) -> AppError:
    problem = error(detail)
    problem.errors = [{"pointer": parameter.pointer, "detail": problem.detail}]
    return problem
