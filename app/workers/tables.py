"""The table of workers."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Index, func, text
from sqlalchemy.dialects.postgresql import ARRAY, TEXT
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, new_id


class ApiProcess(Base):
    """One running API process. Workers can only extend a lease while there is one."""

    __tablename__ = "api_processes"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    seen_at: Mapped[datetime]


class Worker(Base):
    """One start of a worker process, as it last described itself."""

    __tablename__ = "workers"
    __table_args__ = (Index("ix_workers_queue_last_seen_at", "queue", "last_seen_at"),)

    name: Mapped[str] = mapped_column(primary_key=True)
    hostname: Mapped[str]
    version: Mapped[str]
    queue: Mapped[str]
    started_at: Mapped[datetime]
    last_seen_at: Mapped[datetime] = mapped_column(server_default=func.now())
    cpu_count: Mapped[int]
    memory_total_mib: Mapped[int]
    gpus: Mapped[list[dict[str, Any]]]
    versions: Mapped[dict[str, str]]
    pipelines: Mapped[list[dict[str, Any]]] = mapped_column(doc="with the reasons why not")
    runnable: Mapped[list[str]] = mapped_column(ARRAY(TEXT), doc="pipelines it can run")
    warm: Mapped[list[str]] = mapped_column(ARRAY(TEXT), doc="pipelines it has loaded")
    current_attempt_id: Mapped[UUID | None]
    stopping: Mapped[bool] = mapped_column(server_default=text("false"))
