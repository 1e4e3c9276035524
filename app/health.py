"""Liveness and readiness."""

import asyncio
import time
from collections.abc import Awaitable
from typing import Literal

from fastapi import APIRouter, Request, Response, status
from pydantic import BaseModel, Field
from redis import asyncio as aioredis
from sqlalchemy import text
from starlette.datastructures import State

from app import __version__
from app.db.session import Database
from app.storage.base import ObjectStore

router = APIRouter(tags=["health"])

_CHECK_SECONDS = 3.0
_FRESH_SECONDS = 1.0


class Liveness(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"
    version: str = __version__


class DependencyHealth(BaseModel):
    """One server that the API needs."""

    ok: bool
    required: bool = Field(description="without it the API is not ready")
    error: str | None = None


class Readiness(BaseModel):
    """Whether requests can be served, and what is missing if not."""

    status: Literal["ok", "degraded", "unavailable"]
    version: str = __version__
    dependencies: dict[str, DependencyHealth]


@router.get("/livez", summary="Is the process alive?")
async def livez() -> Liveness:
    """Answers as long as the process does; asks nobody else."""
    return Liveness()


@router.get("/health", summary="How is everything?")
@router.get("/readyz", summary="Can requests be served?")
async def readyz(request: Request, response: Response) -> Readiness:
    """Names each dependency. Redis away is `degraded`: jobs are accepted and dispatched later."""
    state = request.app.state
    async with state.readiness_lock:
        known: tuple[float, Readiness] | None = getattr(state, "readiness", None)
        if known is None or time.monotonic() - known[0] > _FRESH_SECONDS:
            # Nobody has to prove who they are to ask this, so asking often must cost nothing.
            known = (time.monotonic(), await _look(state))
            state.readiness = known
    if known[1].status == "unavailable":
        response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    return known[1]


async def _look(state: State) -> Readiness:
    database: Database = state.database
    store: ObjectStore = state.store

    async def check_database() -> None:
        async with database.engine.connect() as connection:
            await connection.execute(text("SELECT 1 FROM models LIMIT 1"))

    async def check_redis() -> None:
        client = aioredis.from_url(state.settings.redis_url)
        try:
            await client.ping()
        finally:
            await client.aclose()

    names = ("database", "storage", "redis")
    found = await asyncio.gather(
        _check(check_database()), _check(store.check()), _check(check_redis())
    )
    dependencies = {
        name: DependencyHealth(ok=error is None, required=name != "redis", error=error)
        for name, error in zip(names, found, strict=True)
    }
    missing = [item for item in dependencies.values() if not item.ok]
    overall: Literal["ok", "degraded", "unavailable"] = "degraded" if missing else "ok"
    if any(item.required for item in missing):
        overall = "unavailable"
    return Readiness(status=overall, dependencies=dependencies)


async def _check(work: Awaitable[None]) -> str | None:
    """None if it works, else the kind of error: messages may hold addresses and names."""
    try:
        await asyncio.wait_for(work, _CHECK_SECONDS)
    except TimeoutError:
        return "does not answer in time"
    except Exception as error:  # noqa: BLE001  (whatever is wrong, that is the answer)
        return type(error).__name__
    return None
