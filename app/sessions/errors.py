"""Errors about logging in."""

import math
from typing import ClassVar

from app.errors import AppError


class LoginRefusedError(AppError):
    """User name or password is wrong."""

    status: ClassVar[int] = 401
    code: ClassVar[str] = "LOGIN_REFUSED"

    def __init__(self) -> None:
        super().__init__(headers={"WWW-Authenticate": "Bearer"})


class LoginLockedError(AppError):
    """Too many wrong passwords. Try again later."""

    status: ClassVar[int] = 429
    code: ClassVar[str] = "LOGIN_LOCKED"

    def __init__(self, seconds: float) -> None:
        left = max(1, math.ceil(seconds))
        super().__init__(
            f"There were too many wrong passwords. Try again in {left} seconds.",
            headers={"Retry-After": str(left)},
        )


class RefreshRefusedError(AppError):
    """This refresh token is unknown, used or expired, or its session has ended. Log in again."""

    status: ClassVar[int] = 401
    code: ClassVar[str] = "REFRESH_REFUSED"

    def __init__(self) -> None:
        super().__init__(headers={"WWW-Authenticate": "Bearer"})


class RegistrationClosedError(AppError):
    """People can't register themselves here. Ask an admin for an account."""

    status: ClassVar[int] = 403
    code: ClassVar[str] = "REGISTRATION_CLOSED"


class WrongPasswordError(AppError):
    """The current password is wrong."""

    status: ClassVar[int] = 403
    code: ClassVar[str] = "WRONG_PASSWORD"


class NoSessionError(AppError):
    """An API key has no session to end. Revoke the key with `DELETE /api/v1/keys/{id}` instead."""

    status: ClassVar[int] = 409
    code: ClassVar[str] = "NO_SESSION"
