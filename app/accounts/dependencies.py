"""FastAPI dependencies that say who is asking."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader, HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials

from app.accounts.authenticator import Authenticator, require_user
from app.accounts.errors import ForbiddenError, NotAuthenticatedError
from app.accounts.principal import Principal, WorkerPrincipal
from app.db.tenancy import enter_tenant
from app.limits.limiter import Limiter

_user_key = APIKeyHeader(
    name="x-api-key", scheme_name="ApiKey", description="A user's API key", auto_error=False
)
_access_token = HTTPBearer(
    scheme_name="AccessToken",
    bearerFormat="JWT",
    description="The access token of a log-in; not looked at where there is an API key",
    auto_error=False,
)
_worker_key = APIKeyHeader(
    name="x-api-key", scheme_name="WorkerKey", description="A GPU machine's key", auto_error=False
)


async def get_authenticator(request: Request) -> Authenticator:
    """The process's authenticator."""
    authenticator: Authenticator = request.app.state.authenticator
    return authenticator


_Authenticator = Annotated[Authenticator, Depends(get_authenticator)]


async def _authentication(
    request: Request,
    authenticator: _Authenticator,
    key: Annotated[str | None, Security(_user_key)],
    # For the documentation: the authenticator reads the header itself, here and in the shortcuts.
    _: Annotated[HTTPAuthorizationCredentials | None, Security(_access_token)],
) -> Callable[[], Awaitable[Principal]]:
    authorization = request.headers.get("authorization")

    async def authenticate() -> Principal:
        principal = require_user(await authenticator.authenticate(key, authorization))
        enter_tenant(principal.organisation_id)
        return principal

    return authenticate


Authentication = Annotated[Callable[[], Awaitable[Principal]], Depends(_authentication)]
"""Who is asking, each time it is called: for answers that take so long that it may change."""


async def _current_principal(request: Request, authenticate: Authentication) -> Principal:
    principal = await authenticate()
    limiter: Limiter = request.app.state.limiter
    await limiter.count(request.scope, principal)
    return principal


async def _current_worker(
    authenticator: _Authenticator, key: Annotated[str | None, Security(_worker_key)]
) -> WorkerPrincipal:
    if not key:
        raise NotAuthenticatedError("Send a worker key as `x-api-key`.")
    principal = await authenticator.authenticate(key)
    if not isinstance(principal, WorkerPrincipal):
        raise ForbiddenError("Only a worker key can be used here.")
    return principal


CurrentPrincipal = Annotated[Principal, Depends(_current_principal)]
CurrentWorker = Annotated[WorkerPrincipal, Depends(_current_worker)]
