"""Errors about who is asking, and about users and keys."""

from typing import ClassVar

from app.errors import AppError


class NotAuthenticatedError(AppError):
    """Send a valid API key as `x-api-key`, or an access token as `Authorization: Bearer …`."""

    status: ClassVar[int] = 401
    code: ClassVar[str] = "NOT_AUTHENTICATED"

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": "ApiKey, Bearer"})


class ForbiddenError(AppError):
    """Your role does not allow this."""

    status: ClassVar[int] = 403
    code: ClassVar[str] = "FORBIDDEN"


class AccountExistsError(AppError):
    """This user name, e-mail address or organisation's name is taken. Choose another one."""

    status: ClassVar[int] = 409
    code: ClassVar[str] = "ACCOUNT_EXISTS"


class UserNotFoundError(AppError):
    """There is no such user."""

    status: ClassVar[int] = 404
    code: ClassVar[str] = "USER_NOT_FOUND"


class LastAdminError(AppError):
    """This is the organisation's last active admin. Make somebody else an admin first."""

    status: ClassVar[int] = 409
    code: ClassVar[str] = "LAST_ADMIN"


class KeyNotFoundError(AppError):
    """There is no such key."""

    status: ClassVar[int] = 404
    code: ClassVar[str] = "KEY_NOT_FOUND"


class KeyStateError(AppError):
    """The key is revoked or expired, or has been rotated already."""

    status: ClassVar[int] = 409
    code: ClassVar[str] = "KEY_STATE_CONFLICT"


class TooManyKeysError(AppError):
    """There are too many keys already. Revoke one that is not used any more."""

    status: ClassVar[int] = 409
    code: ClassVar[str] = "TOO_MANY_KEYS"
