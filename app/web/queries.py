"""What the query parameters of all lists share."""

import base64
import binascii
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator

from app.errors import InvalidRequestError
from contract.base import in_utc

MAX_PAGE = 100


def _with_zone(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


Moment = Annotated[datetime, AfterValidator(_with_zone), AfterValidator(in_utc)]
"""A time in UTC; one without a zone is taken to be."""


def encode_cursor(last_id: UUID) -> str:
    """The opaque cursor of the page after this id."""
    return base64.urlsafe_b64encode(last_id.bytes).decode().rstrip("=")


def decode_cursor(cursor: str | None) -> UUID | None:
    """The id that a cursor stands for.

    Raises:
        InvalidRequestError: it was not made by `encode_cursor`.
    """
    if cursor is None:
        return None
    try:
        return UUID(bytes=base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, binascii.Error) as error:
        raise InvalidRequestError(
            "cursor: pass the `next_cursor` of the page before, unchanged"
        ) from error
