"""What every route of an attempt needs: its token, and its name in each line of the log."""

from typing import Annotated
from uuid import UUID

import structlog
from fastapi import Depends, Header

from app.accounts.errors import ForbiddenError, NotAuthenticatedError
from app.jobs.errors import (
    AttemptGoneError,
    AttemptNotFoundError,
    AttemptSupersededError,
    AttemptTokenError,
)
from contract.attempts import ATTEMPT_TOKEN_HEADER


async def bind_attempt(attempt_id: UUID) -> None:
    """Let every log line of the request name the attempt."""
    structlog.contextvars.bind_contextvars(attempt_id=str(attempt_id))


_AttemptTokenHeader = Annotated[
    str | None,
    Header(alias=ATTEMPT_TOKEN_HEADER, max_length=200, description="from the claim's answer"),
]


async def _attempt_token(token: _AttemptTokenHeader = None) -> str:
    if not token:
        raise AttemptTokenError
    return token


AttemptToken = Annotated[str, Depends(_attempt_token)]

FENCED_ERRORS = (
    NotAuthenticatedError,
    ForbiddenError,
    AttemptNotFoundError,
    AttemptTokenError,
    AttemptSupersededError,
    AttemptGoneError,
)
"""What every call of an attempt may be refused with."""
