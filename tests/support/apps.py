"""More instances of the API than the one that all tests share."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

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
