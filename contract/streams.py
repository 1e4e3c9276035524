"""Files that are uploaded while they grow: nobody knows their size and SHA-256 before the end."""

from typing import Annotated
from uuid import UUID

from pydantic import Field

from contract.artifacts import MediaType
from contract.base import FileName, Message, Sha256, UtcDatetime
from contract.kinds import ArtifactKind

PART_BYTES = 8 << 20
"""Size of every part but the last, which may be smaller (S3 takes 5 MiB to 5 GiB)."""

MOST_PARTS = 4096
"""Of one file: 32 GiB."""

MOST_URLS = 64
"""Asked for at once."""

PartTag = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/=_.-]{1,100}$")]
"""A part's ETag, as storage answered it, without its quotes."""


class StreamRequest(Message):
    """The worker wants to upload a file that is still being made.

    Asking again for the same name begins anew: what was uploaded of it before is dropped.
    """

    kind: ArtifactKind
    name: FileName
    media_type: MediaType


class StreamTicket(Message):
    """Permission to upload one file in parts of `PART_BYTES`."""

    ticket_id: UUID


class StreamPartsRequest(Message):
    """Where do these parts go? May be asked again, for parts that were uploaded already, too.

    The answer has fewer where a file cannot have so many.
    """

    ticket_id: UUID
    first: int = Field(ge=1, le=MOST_PARTS, description="number of the first part; they begin at 1")
    count: int = Field(ge=1, le=MOST_URLS)


class StreamParts(Message):
    """One URL for the PUT of each part, in their order."""

    upload_urls: list[str]
    expires_at: UtcDatetime


class StreamCompletion(Message):
    """All parts are in storage: put them together, check the file and show it.

    The same completion again answers the same record.
    """

    ticket_id: UUID
    etags: list[PartTag] = Field(
        min_length=1, max_length=MOST_PARTS, description="of all parts, in their order"
    )
    size_bytes: int = Field(ge=1, le=PART_BYTES * MOST_PARTS)
    sha256: Sha256
