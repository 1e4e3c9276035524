"""What the route of the audit trail takes and answers."""

from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from app.audit.tables import AuditEvent
from app.web.queries import MAX_PAGE, Moment
from contract.base import UtcDatetime

_EVENT: dict[str, Any] = {
    "id": "01a1f888-7332-7128-a621-0e7d53df5f83",
    "action": "key.revoked",
    "actor_id": "01a1f86f-2f50-7c1d-9d1c-6a5b4c3d2e1f",
    "actor_name": "ada",
    "credential_id": "01a1f871-5a4b-7c3d-8e2f-1a0b9c8d7e6f",
    "target_id": "01a1f870-0b1c-7d2e-8f3a-4b5c6d7e8f90",
    "data": {"name": "laptop", "prefix": "p3d_user_3fA91kQz"},
    "address": "192.0.2.7",
    "request_id": "01a1f888-7331-7f00-9b1e-8d7c6b5a4938",
    "created_at": "2026-03-01T12:30:15.250000Z",
}


class AuditFilters(BaseModel):
    """Which audit events to list."""

    model_config = ConfigDict(extra="forbid")

    action: str | None = Field(
        default=None,
        max_length=64,
        pattern=r"^[a-z_.]+\*?$",
        description="an action, or its beginning with a star: `login.*`",
    )
    actor_id: UUID | None = Field(default=None, description="the user who did it")
    target_id: UUID | None = Field(
        default=None, description="the user, key, session, job or webhook that it was done to"
    )
    address: str | None = Field(default=None, max_length=45, pattern=r"^[0-9a-fA-F.:]+$")
    created_after: Moment | None = None
    created_before: Moment | None = None
    cursor: str | None = Field(default=None, max_length=64, description="of the page before")
    limit: int = Field(default=50, ge=1, le=MAX_PAGE)


class AuditEventOut(BaseModel):
    """One thing that somebody did."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EVENT]})

    id: UUID
    action: str
    actor_id: UUID | None = Field(description="the user; null for a program or a failed log-in")
    actor_name: str = Field(description="as it was then")
    credential_id: UUID | None = Field(description="the key or the session that was used")
    target_id: UUID | None
    data: dict[str, Any]
    address: str | None
    request_id: str | None
    created_at: UtcDatetime

    @classmethod
    def of(cls, event: AuditEvent) -> "AuditEventOut":
        """The event of a row."""
        return cls(**{name: getattr(event, name) for name in cls.model_fields})


class AuditPage(BaseModel):
    """Some audit events, newest first."""

    items: list[AuditEventOut]
    next_cursor: str | None = Field(description="pass it as `cursor` for the page after")
