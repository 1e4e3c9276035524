"""Artifacts: what a pipeline makes and the worker uploads."""

from typing import Annotated
from uuid import UUID

from pydantic import Field

from contract.base import FileName, Message, Sha256, UtcDatetime
from contract.kinds import ArtifactKind

__all__ = [
    "ArtifactCommit",
    "ArtifactKind",
    "ArtifactRecord",
    "MediaType",
    "UploadTicket",
    "UploadTicketRequest",
]

MediaType = Annotated[
    str, Field(pattern=r"^[a-z]+/[a-z0-9][a-z0-9.+-]*$", max_length=100, examples=["image/png"])
]


class UploadTicketRequest(Message):
    """The worker wants to upload one file of its attempt.

    Asking again for the same name replaces the earlier ticket, until the file is committed.
    """

    kind: ArtifactKind
    name: FileName
    media_type: MediaType
    size_bytes: int = Field(ge=1, le=1 << 40)
    sha256: Sha256


class UploadTicket(Message):
    """Permission to PUT one object; the bytes go straight to storage."""

    ticket_id: UUID
    upload_url: str
    headers: dict[str, str]
    expires_at: UtcDatetime


class ArtifactCommit(Message):
    """The worker has uploaded a ticket's object and asks the app to check and show it."""

    ticket_id: UUID


class ArtifactRecord(Message):
    """A checked artifact. The same commit again answers the same record."""

    artifact_id: UUID
    kind: ArtifactKind
    name: FileName
    size_bytes: int
    sha256: Sha256
