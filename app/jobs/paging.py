"""Cursors of lists of jobs: the id of a page's last job, opaque to clients."""

import base64
import binascii
from uuid import UUID

from app.errors import InvalidRequestError


def encode_cursor(job_id: UUID) -> str:
    """The cursor of the page after a job."""
    return base64.urlsafe_b64encode(job_id.bytes).decode().rstrip("=")


def decode_cursor(cursor: str | None) -> UUID | None:
    """The last job of the page before; None without one.

    Raises:
        InvalidRequestError: it is no cursor of ours.
    """
    if cursor is None:
        return None
    try:
        return UUID(bytes=base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, binascii.Error) as error:
        raise InvalidRequestError(
            "cursor: pass the `next_cursor` of the page before, unchanged"
        ) from error
