"""The table of AI models."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import CheckConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base


class PromptPolicy(StrEnum):
    """Whether a model takes a prompt."""

    REQUIRED = "required"
    OPTIONAL = "optional"
    NONE = "none"


class Model(Base):
    """An AI model of the catalog."""

    __tablename__ = "models"
    __table_args__ = (
        CheckConstraint("prompt_policy IN ('required', 'optional', 'none')", name="prompt_policy"),
        CheckConstraint("max_attempts BETWEEN 1 AND 20", name="max_attempts"),
        CheckConstraint("time_limit_seconds > 0", name="time_limit_seconds"),
    )

    id: Mapped[str] = mapped_column(primary_key=True, doc="such as inflate-v1")
    name: Mapped[str]
    description: Mapped[str]
    kind: Mapped[str] = mapped_column(doc="what goes in and comes out, such as image-to-3d")
    version: Mapped[str]
    licence: Mapped[str]
    pipeline: Mapped[str] = mapped_column(doc="the worker code it selects")
    queue: Mapped[str] = mapped_column(doc="the RQ queue, named by capability")
    prompt_policy: Mapped[str]
    parameters: Mapped[dict[str, Any]] = mapped_column(doc="JSON Schema, draft 2020-12")
    main_artifact: Mapped[str] = mapped_column(doc="the kind that `download` answers with")
    max_attempts: Mapped[int] = mapped_column(server_default=text("3"))
    time_limit_seconds: Mapped[int]
    retention_days: Mapped[int] = mapped_column(server_default=text("7"))
    enabled: Mapped[bool] = mapped_column(server_default=text("true"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
