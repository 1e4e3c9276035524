"""FastAPI dependencies that say who is asking."""

from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader

from app.accounts.errors import ForbiddenError
from app.accounts.principal import Principal, WorkerPrincipal
from app.accounts.service import Authenticator, require_user
from app.limits.limiter import Limiter

_user_key = APIKeyHeader(
    name="x-api-key", scheme_name="ApiKey", description="A user's API key", auto_error=False
)
_worker_key = APIKeyHeader(
    name="x-api-key", scheme_name="WorkerKey", description="A GPU machine's key", auto_error=False
)


async def get_authenticator(request: Request) -> Authenticator:
    """The process's authenticator."""
    authenticator: Authenticator = request.app.state.authenticator
    return authenticator


_Authenticator = Annotated[Authenticator, Depends(get_authenticator)]


async def _current_principal(
    request: Request,
    authenticator: _Authenticator,
    key: Annotated[str | None, Security(_user_key)],
) -> Principal:
    principal = require_user(await authenticator.authenticate(key))
    limiter: Limiter = request.app.state.limiter
    await limiter.count(request.scope, principal)
    return principal


async def _current_worker(
    authenticator: _Authenticator, key: Annotated[str | None, Security(_worker_key)]
) -> WorkerPrincipal:
    principal = await authenticator.authenticate(key)
    if not isinstance(principal, WorkerPrincipal):
        raise ForbiddenError("Only a worker key can be used here.")
    return principal


CurrentPrincipal = Annotated[Principal, Depends(_current_principal)]
CurrentWorker = Annotated[WorkerPrincipal, Depends(_current_worker)]
