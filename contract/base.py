"""The shape every wire message shares."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer

PROTOCOL_VERSION: Literal[1] = 1


def format_utc(moment: datetime) -> str:
    """RFC 3339 in UTC with microseconds and a trailing `Z`."""
    text = moment.astimezone(UTC).isoformat(timespec="microseconds")
    return text.removesuffix("+00:00") + "Z"


def in_utc(moment: datetime) -> datetime:
    """The same moment in UTC.

    Raises:
        ValueError: it is before year 1 or after year 9999 there.
    """
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("is out of range") from error


def _storable(text: str) -> str:
    if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("has a character that cannot be stored")
    return text


Text = Annotated[str, AfterValidator(_storable)]
"""Text that every database can store: no NUL, no lone surrogate."""

UtcDatetime = Annotated[
    AwareDatetime, AfterValidator(in_utc), PlainSerializer(format_utc, when_used="json")
]
"""A time with a zone, written in UTC and ending in `Z`."""

FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
"""A file name that is safe in an object key, a URL and a folder."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""A SHA-256 digest in lower-case hex."""

ErrorCode = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{0,63}$")]
"""A stable, machine-readable name of an error, such as `CUTOUT_UNRELIABLE`."""


class Message(BaseModel):
    """An immutable wire message. Unknown fields are ignored, so that either side may be newer."""

    model_config = ConfigDict(frozen=True, extra="ignore")
