"""Waiting until processes have heard of a change."""

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import pytest

from app.db.session import Database
from app.db.signals import Channel, Signal


async def until_refused(call: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response:
    """Call until it is refused."""
    for _ in range(3000):
        answer = await call()
        if answer.is_error:
            return answer
        await asyncio.sleep(0.01)
    pytest.fail("it was never refused")


async def listening(client: httpx.AsyncClient) -> None:
    """Wait until an app hears signals: one sent before is not for it."""
    database: Database = client._transport.app.state.database
    heard = asyncio.Event()
    database.signals.on(Channel.WORK_READY, lambda _: heard.set())
    for _ in range(3000):
        if heard.is_set():
            return
        database.signals.send(Signal(Channel.WORK_READY, "test"))
        await asyncio.sleep(0.01)
    pytest.fail("no signal was heard")
