"""More instances of the API than the one that all tests share."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from app.config import Settings
from app.main import create_app

DEAD_PORT = 1
"""A port that nobody may listen on without being root, and nobody does."""


@asynccontextmanager
async def another_app(settings: Settings, **changes: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an API of its own, with some settings changed."""
    app = create_app(settings.model_copy(update=changes))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://api.test", timeout=30
        ) as client,
    ):
        yield client


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[str]:
    """Where an app is to be found, on a real port; its life is somebody else's."""
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=0, lifespan="off", log_config=None)
    )
    running = asyncio.create_task(server.serve())
    while not server.started:
        assert not running.done(), running.exception()
        await asyncio.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await running
