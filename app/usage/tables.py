"""Tables of what is used; triggers keep them, whoever writes (migration 0006)."""

from datetime import date
from uuid import UUID

from sqlalchemy import BigInteger, Double, ForeignKey, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base


class UserUsage(Base):
    """What one user has waiting and stored now; made with the user.

    Its row is locked before those of the user's queue, in all transactions that take both.
    """

    __tablename__ = "user_usage"

    user_id: Mapped[UUID] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True
    )
    queued_jobs: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    storage_bytes: Mapped[int] = mapped_column(
        BigInteger, server_default=text("0"), doc="of all upload tickets, used or not yet"
    )


class GpuUsage(Base):
    """The GPU-seconds of one user's attempts that ended in one month (UTC)."""

    __tablename__ = "gpu_usage"

    user_id: Mapped[UUID] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True
    )
    month: Mapped[date] = mapped_column(primary_key=True, doc="its first day")
    seconds: Mapped[float] = mapped_column(Double)
