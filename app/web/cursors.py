"""Cursors of lists that are sorted by id, newest first: opaque to clients."""

import base64
import binascii
from uuid import UUID

from app.errors import InvalidRequestError


def encode_cursor(last_id: UUID) -> str:
    """The cursor of the page after the one that ends with this id."""
    return base64.urlsafe_b64encode(last_id.bytes).decode().rstrip("=")


def decode_cursor(cursor: str | None) -> UUID | None:
    """The id that a page begins after; None for the first page.

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
