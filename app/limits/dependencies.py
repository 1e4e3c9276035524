"""FastAPI dependencies of routes that have a limit beside that of requests."""

from fastapi import Depends, Request

from app.accounts.dependencies import CurrentPrincipal
from app.limits.limiter import Limiter
from app.limits.policies import Kind


async def _count_download(request: Request, principal: CurrentPrincipal) -> None:
    limiter: Limiter = request.app.state.limiter
    await limiter.count(request.scope, principal, Kind.DOWNLOADS)


async def _count_create(request: Request, principal: CurrentPrincipal) -> None:
    limiter: Limiter = request.app.state.limiter
    await limiter.count(request.scope, principal, Kind.CREATES)


CountedDownload = Depends(_count_download)
"""For routes that answer with presigned URLs of a job's files."""

CountedCreate = Depends(_count_create)
"""For routes that create a job."""
