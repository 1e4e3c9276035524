"""Tables of sessions: who has logged in, their refresh tokens, and failed log-ins."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, new_id


class EndReason(StrEnum):
    """Why a session ended before its time."""

    LOGOUT = "logout"
    TOKEN_REUSED = "token_reused"  # noqa: S105
    PASSWORD_CHANGED = "password_changed"  # noqa: S105
    DEACTIVATED = "deactivated"


class LoginSession(Base):
    """One log-in and all that is refreshed from it: the family of its tokens."""

    __tablename__ = "sessions"
    __table_args__ = (
        CheckConstraint("(ended_at IS NULL) = (end_reason IS NULL)", name="end_reason"),
        Index("ix_sessions_live_user_id", "user_id", postgresql_where=text("ended_at IS NULL")),
        Index("ix_sessions_expires_at", "expires_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime] = mapped_column(doc="when its last refresh token does")
    ended_at: Mapped[datetime | None]
    end_reason: Mapped[str | None]


class RefreshToken(Base):
    """A refresh token, kept as a keyed hash; good for one use."""

    __tablename__ = "refresh_tokens"

    token_hash: Mapped[str] = mapped_column(primary_key=True)
    session_id: Mapped[UUID] = mapped_column(
        ForeignKey("sessions.id", ondelete="CASCADE"), index=True
    )
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    used_at: Mapped[datetime | None]


class LoginFailure(Base):
    """How often a password was wrong lately, for one name or from one address."""

    __tablename__ = "login_failures"

    subject: Mapped[str] = mapped_column(
        primary_key=True, doc="a keyed hash: names that were tried may be passwords"
    )
    failures: Mapped[int]
    expires_at: Mapped[datetime] = mapped_column(
        index=True, doc="when the failures are forgotten; while there are too many, until then"
    )
