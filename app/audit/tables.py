"""The table of audit events."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, new_id


class AuditEvent(Base):
    """One thing that somebody did. The database refuses to change or delete it.

    It refers to nothing by foreign key: it outlives what it tells of.
    """

    __tablename__ = "audit_events"
    __table_args__ = (
        Index("ix_audit_events_organisation_id_id", "organisation_id", text("id DESC")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    organisation_id: Mapped[UUID | None] = mapped_column(
        doc="whose it is; NULL if it is nobody's, such as a log-in of an unknown name"
    )
    action: Mapped[str]
    actor_id: Mapped[UUID | None] = mapped_column(doc="the user, if it was one")
    actor_name: Mapped[str]
    credential_id: Mapped[UUID | None] = mapped_column(doc="the key or session that was used")
    target_id: Mapped[UUID | None] = mapped_column(doc="the user, key, session, job or webhook")
    data: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    address: Mapped[str | None]
    request_id: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
