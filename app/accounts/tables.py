"""Tables of organisations, users and API keys."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, CheckConstraint, ForeignKey, Index, Text, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.accounts.roles import Role, Scope
from app.db.base import Base, new_id


class KeyKind(StrEnum):
    """Whom an API key speaks for: a person, or a GPU machine."""

    USER = "user"
    WORKER = "worker"


class Organisation(Base):
    """A tenant: what one organisation has, no other can see."""

    __tablename__ = "organisations"
    __table_args__ = (CheckConstraint("retention_days >= 1", name="retention_days"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(unique=True)
    retention_days: Mapped[int | None] = mapped_column(
        doc="how long files of ended jobs are kept; NULL leaves it to each model"
    )
    runs_platform: Mapped[bool] = mapped_column(
        server_default=text("false"), doc="its admins also make the keys of GPU machines"
    )
    # These override the settings of their names; 0 is no limit.
    max_active_jobs: Mapped[int | None] = mapped_column(BigInteger)
    max_queued_jobs: Mapped[int | None] = mapped_column(BigInteger)
    max_storage_bytes: Mapped[int | None] = mapped_column(BigInteger)
    max_gpu_seconds: Mapped[int | None] = mapped_column(BigInteger, doc="a month")
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
    username: Mapped[str] = mapped_column(doc="as `canonical_username` spells it")
    email: Mapped[str | None] = mapped_column(unique=True, doc="as `canonical_email` spells it")
    password_hash: Mapped[str]
    password_changed_at: Mapped[datetime | None] = mapped_column(
        doc="when somebody changed the first password; `.env` says nothing of it any more"
    )
    role: Mapped[str] = mapped_column(default=Role.OPERATOR)
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))
    max_active_jobs: Mapped[int | None] = mapped_column(
        doc="overrides MAX_ACTIVE_JOBS_PER_USER for this user"
    )
    # So do these their settings; 0 is no limit.
    max_queued_jobs: Mapped[int | None] = mapped_column(BigInteger)
    max_storage_bytes: Mapped[int | None] = mapped_column(BigInteger)
    max_gpu_seconds: Mapped[int | None] = mapped_column(BigInteger, doc="a month")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ApiKey(Base):
    """An API key, kept as a keyed hash; the key itself is shown once, when it is made."""

    __tablename__ = "api_keys"
    __table_args__ = (
        CheckConstraint(
            "(kind = 'user' AND user_id IS NOT NULL) OR (kind = 'worker' AND user_id IS NULL)",
            name="kind_owner",
        ),
        CheckConstraint(
            "scopes <@ ARRAY[{}]::text[]".format(", ".join(f"'{scope}'" for scope in Scope)),
            name="scopes",
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
    scopes: Mapped[list[str] | None] = mapped_column(
        ARRAY(Text), doc="what it may do of what its user may; NULL for all of that"
    )
    rotated_from: Mapped[UUID | None] = mapped_column(
        ForeignKey("api_keys.id", ondelete="SET NULL"), unique=True, doc="the key it replaces"
    )
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_used_at: Mapped[datetime | None] = mapped_column(doc="to the minute")
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
