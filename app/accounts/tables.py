"""Tables of organisations, users and API keys."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.accounts.roles import Role
from app.db.base import Base, new_id


class KeyKind(StrEnum):
    """Whom an API key speaks for: a person, or a GPU machine."""

    USER = "user"
    WORKER = "worker"


class Organisation(Base):
    """A tenant: what one organisation has, no other can see."""

    __tablename__ = "organisations"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class User(Base):
    """A person, in exactly one organisation."""

    __tablename__ = "users"
    __table_args__ = (
        CheckConstraint(
            "role IN ({})".format(", ".join(f"'{role}'" for role in Role)), name="role"
        ),
        Index("uq_users_username_lower", text("lower(username)"), unique=True),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    organisation_id: Mapped[UUID] = mapped_column(ForeignKey("organisations.id"), index=True)
    username: Mapped[str]
    email: Mapped[str | None]
    password_hash: Mapped[str]
    role: Mapped[str] = mapped_column(default=Role.OPERATOR)
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))
    max_active_jobs: Mapped[int | None] = mapped_column(
        doc="overrides MAX_ACTIVE_JOBS_PER_USER for this user"
    )
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ApiKey(Base):
    """An API key, kept as a keyed hash; the key itself is shown once, when it is made."""

    __tablename__ = "api_keys"
    __table_args__ = (
        CheckConstraint(
            "(kind = 'user' AND user_id IS NOT NULL) OR (kind = 'worker' AND user_id IS NULL)",
            name="kind_owner",
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    kind: Mapped[str]
    user_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), index=True
    )
    name: Mapped[str]
    prefix: Mapped[str] = mapped_column(doc="the key's first characters, to tell keys apart")
    key_hash: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
