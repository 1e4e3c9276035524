"""The error of who uses too much."""

from typing import ClassVar

from app.errors import AppError


class QuotaExceededError(AppError):
    """You, or your organisation, use as much as allowed. The detail names the quota."""

    status: ClassVar[int] = 429
    code: ClassVar[str] = "QUOTA_EXCEEDED"
