"""Tokens: signed ones for access (RFC 7519, RFC 9068), opaque ones to get new ones."""

import hmac
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import jwt

from app.accounts.errors import NotAuthenticatedError
from app.config import Settings
from app.db.base import new_id

ISSUER = "pipeline3d"
AUDIENCE = "pipeline3d-api"
_ALGORITHM = "HS256"
_TYPE = "at+jwt"
_REQUIRED = ["iss", "aud", "exp", "iat", "sub", "sid", "jti"]
_MAX_LENGTH = 2048
_PURPOSE = b"pipeline3d access tokens, version 1"
_REFRESH_PREFIX = "p3d_refresh_"

# Of those who sign and those who check, in different processes.
_CLOCK_DIFFERENCE = timedelta(seconds=10)


@dataclass(frozen=True)
class Claims:
    """What an access token says; whether the session still is, the database knows."""

    user_id: UUID
    session_id: UUID
    expires_at: int
    """Seconds since 1970."""


class AccessTokens:
    """Signs and reads access tokens with a key that is derived from `SECRET_KEY`.

    Args:
        settings: the secret, and how long tokens are good for.
    """

    def __init__(self, settings: Settings) -> None:
        # A key of its own for each use: what is signed here is no hash of an API key.
        self._key = hmac.digest(settings.secret_key.get_secret_value().encode(), _PURPOSE, "sha256")
        self._life = timedelta(seconds=settings.access_token_seconds)

    def issue(self, user_id: UUID, session_id: UUID) -> str:
        """A new token for a session of a user."""
        now = datetime.now(UTC)
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": str(user_id),
            "sid": str(session_id),
            "jti": str(new_id()),
            "iat": now,
            "exp": now + self._life,
        }
        return jwt.encode(claims, self._key, algorithm=_ALGORITHM, headers={"typ": _TYPE})

    def read(self, token: str) -> Claims:
        """What a token says, if it is one of ours and not expired.

        Raises:
            NotAuthenticatedError: it is not.
        """
        if len(token) > _MAX_LENGTH:
            raise NotAuthenticatedError("This is not an access token.")
        try:
            read = jwt.decode_complete(
                token,
                self._key,
                algorithms=[_ALGORITHM],
                issuer=ISSUER,
                audience=AUDIENCE,
                leeway=_CLOCK_DIFFERENCE,
                options={"require": _REQUIRED, "strict_aud": True},
            )
            claims = read["payload"]
            if read["header"].get("typ") != _TYPE:
                raise NotAuthenticatedError("This is not an access token.")
            return Claims(
                user_id=UUID(claims["sub"]),
                session_id=UUID(claims["sid"]),
                expires_at=int(claims["exp"]),
            )
        except jwt.ExpiredSignatureError as error:
            raise NotAuthenticatedError(
                "This access token has expired. Get a new one with your refresh token, "
                "from `POST /api/v1/auth/refresh`."
            ) from error
        except (jwt.PyJWTError, ValueError, AttributeError, TypeError) as error:
            raise NotAuthenticatedError("This is not a valid access token.") from error


def new_refresh_token() -> str:
    """A new refresh token: 256 random bits, which mean nothing by themselves."""
    return _REFRESH_PREFIX + secrets.token_urlsafe(32)
