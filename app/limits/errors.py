"""The error of who asks too often."""

from typing import ClassVar

from app.errors import AppError


class RateLimitExceededError(AppError):
    """You are asking too often. Wait as many seconds as `Retry-After` says."""

    status: ClassVar[int] = 429
    code: ClassVar[str] = "RATE_LIMIT_EXCEEDED"

    def __init__(self, detail: str, retry_after: int) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after)})
