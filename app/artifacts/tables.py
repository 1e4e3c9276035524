"""Tables of artifacts and upload tickets."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Index, false, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, new_id


class Artifact(Base):
    """A checked file of a job. Without an attempt it is an input that the user uploaded.

    Only those of the job's current attempt are shown: what a lost attempt left is not a result.
    """

    __tablename__ = "artifacts"
    __table_args__ = (
        Index(
            "uq_artifacts_attempt_id_name",
            "attempt_id",
            "name",
            unique=True,
            postgresql_where=text("attempt_id IS NOT NULL"),
        ),
        Index("ix_artifacts_job_id", "job_id"),
        Index("ix_artifacts_object_key", "object_key"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    attempt_id: Mapped[UUID | None] = mapped_column(ForeignKey("attempts.id", ondelete="CASCADE"))
    parameter: Mapped[str | None] = mapped_column(doc="the parameter that names this input")
    kind: Mapped[str]
    name: Mapped[str]
    media_type: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str | None] = mapped_column(doc="unknown for an input sent without it")
    etag: Mapped[str]
    object_key: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class UploadTicket(Base):
    """Short-lived permission to upload one object: of a user, or of an attempt's worker."""

    __tablename__ = "upload_tickets"
    __table_args__ = (
        Index(
            "uq_upload_tickets_attempt_id_name",
            "attempt_id",
            "name",
            unique=True,
            postgresql_where=text("attempt_id IS NOT NULL"),
        ),
        Index("ix_upload_tickets_keep_until", "keep_until"),
        # Few: those that are being uploaded just now, or were when their attempt ended.
        Index(
            "ix_upload_tickets_upload_id",
            "attempt_id",
            postgresql_where=text("upload_id IS NOT NULL"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    attempt_id: Mapped[UUID | None] = mapped_column(ForeignKey("attempts.id", ondelete="CASCADE"))
    object_key: Mapped[str] = mapped_column(unique=True)
    kind: Mapped[str]
    name: Mapped[str]
    media_type: Mapped[str]
    size_bytes: Mapped[int | None] = mapped_column(
        BigInteger, doc="promised, where it was given; else found when a job took it"
    )
    sha256: Mapped[str | None] = mapped_column(doc="promised, where it was given")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime] = mapped_column(doc="the URL works until then")
    keep_until: Mapped[datetime | None] = mapped_column(
        doc="its object is deleted after this; NULL while a job keeps it"
    )
    streamed: Mapped[bool] = mapped_column(
        server_default=false(), doc="ever uploaded in parts, so storage may hold some of them"
    )
    upload_id: Mapped[str | None] = mapped_column(
        doc="storage's name of the upload in parts that is under way"
    )
