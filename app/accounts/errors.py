"""Errors about who is asking."""

from typing import ClassVar

from app.errors import AppError


class NotAuthenticatedError(AppError):
    """Send a valid API key in the `x-api-key` header."""

    status: ClassVar[int] = 401
    code: ClassVar[str] = "NOT_AUTHENTICATED"

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": "ApiKey"})


class ForbiddenError(AppError):
    """Your role does not allow this."""

    status: ClassVar[int] = 403
    code: ClassVar[str] = "FORBIDDEN"
