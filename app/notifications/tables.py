"""Tables of webhooks, of what each user wants to be told, and of deliveries: the outbox.

Deliveries about jobs are inserted by a trigger on `job_events` (docs/decisions/0022), in the
transaction that writes the event.
"""

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, CheckConstraint, ForeignKey, Index, SmallInteger, Text, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, new_id


class Channel(StrEnum):
    """The way a delivery takes."""

    WEBHOOK = "webhook"
    CALLBACK = "callback"
    EMAIL = "email"


class DeliveryStatus(StrEnum):
    """Where a delivery stands."""

    PENDING = "PENDING"
    DELIVERED = "DELIVERED"
    FAILED = "FAILED"


class EmailPreference(StrEnum):
    """Of which ends of their jobs a user wants e-mail."""

    OFF = "off"
    FAILURES = "failures"
    ALL = "all"


MAX_TRIES = 8
"""How often a delivery is tried: at once, and then after each wait of the schedule."""


def _one_of(column: str, values: Iterable[str]) -> str:
    return f"{column} IN ({', '.join(repr(str(value)) for value in values)})"


class Webhook(Base):
    """A user's standing order: a URL that is told of events of the user's jobs."""

    __tablename__ = "webhooks"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    organisation_id: Mapped[UUID] = mapped_column(ForeignKey("organisations.id"), index=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    url: Mapped[str]
    events: Mapped[list[str]] = mapped_column(ARRAY(Text))
    description: Mapped[str] = mapped_column(server_default=text("''"))
    secret_version: Mapped[int] = mapped_column(
        server_default=text("1"), doc="the secret is derived from it and the id"
    )
    secret_rotated_at: Mapped[datetime | None]
    failures: Mapped[int] = mapped_column(
        server_default=text("0"), doc="tries that failed since the last one that did not"
    )
    failing_since: Mapped[datetime | None]
    disabled_at: Mapped[datetime | None]
    disabled_reason: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class NotificationPreferences(Base):
    """What a user wants to be told, and the secret of the callbacks of the user's jobs.

    A user without a row has the defaults.
    """

    __tablename__ = "notification_preferences"
    __table_args__ = (CheckConstraint(_one_of("email", EmailPreference), name="email"),)

    user_id: Mapped[UUID] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True
    )
    email: Mapped[str] = mapped_column(server_default=text("'off'"))
    secret_version: Mapped[int] = mapped_column(server_default=text("1"))
    secret_rotated_at: Mapped[datetime | None]


class DeliveryChannel(Base):
    """A channel that has to be set up, and is: without its row nothing is queued for it."""

    __tablename__ = "delivery_channels"

    name: Mapped[str] = mapped_column(primary_key=True)


class Delivery(Base):
    """One message for one destination, and what has become of it.

    A PENDING one is to be tried when it is due; while somebody tries it, `due_at` is when that
    one's lease is over.
    """

    __tablename__ = "deliveries"
    __table_args__ = (
        CheckConstraint(_one_of("channel", Channel), name="channel"),
        CheckConstraint(_one_of("status", DeliveryStatus), name="status"),
        CheckConstraint("(status = 'PENDING') = (finished_at IS NULL)", name="finished_at"),
        CheckConstraint("(channel = 'webhook') = (webhook_id IS NOT NULL)", name="webhook_id"),
        CheckConstraint("(channel = 'email') = (url IS NULL)", name="url"),
        Index(
            "ix_deliveries_waiting",
            "destination",
            "due_at",
            postgresql_where=text("status = 'PENDING'"),
        ),
        Index("ix_deliveries_webhook_id_id", "webhook_id", text("id DESC")),
        Index("ix_deliveries_user_id_id", "user_id", text("id DESC")),
        Index("ix_deliveries_job_id", "job_id"),
        Index("ix_deliveries_occurred_at", "occurred_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    event_id: Mapped[UUID] = mapped_column(default=new_id, doc="the same for every destination")
    channel: Mapped[str]
    type: Mapped[str]
    occurred_at: Mapped[datetime] = mapped_column(server_default=func.now())
    organisation_id: Mapped[UUID] = mapped_column(ForeignKey("organisations.id"))
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    job_id: Mapped[UUID | None] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    # No foreign key: a job must not fail to be written because a webhook is deleted meanwhile.
    webhook_id: Mapped[UUID | None]
    url: Mapped[str | None]
    destination: Mapped[str] = mapped_column(doc="the host it goes to, for taking turns")
    data: Mapped[dict[str, Any]] = mapped_column(
        doc="the job's row as the event left it, or what else there is to tell"
    )
    status: Mapped[str] = mapped_column(server_default=text("'PENDING'"))
    attempts: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    tries_left: Mapped[int] = mapped_column(SmallInteger, server_default=text(str(MAX_TRIES)))
    due_at: Mapped[datetime] = mapped_column(server_default=func.now())
    tried_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    answer_status: Mapped[int | None] = mapped_column(SmallInteger)
    answer_start: Mapped[str | None] = mapped_column(doc="the first bytes of the last answer")
    error: Mapped[str | None] = mapped_column(doc="why the last try failed, for its user")
