"""Signals between processes: hints that wake, get lost, and come back."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text

from app.config import Settings
from app.db.session import Database, signal_after_commit
from app.db.signals import Channel, Signal, Signals


@pytest.fixture
async def other_process(settings: Settings) -> AsyncIterator[Signals]:
    """The signals of another process."""
    signals = Signals(settings.database_dsn)
    await signals.start()
    with signals.listen(Channel.JOB_CHANGED) as connected:
        await connected.wait()
    yield signals
    await signals.stop()


async def test_committed_transaction_wakes_the_other_process(
    database: Database, other_process: Signals
) -> None:
    """A signal arrives once the transaction has been committed."""
    with other_process.listen(Channel.WORK_READY, "cpu") as woken:
        async with database.transaction() as session:
            signal_after_commit(session, Signal(Channel.WORK_READY, "cpu"))
        await asyncio.wait_for(woken.wait(), 10)


async def test_own_signals_do_not_go_round_by_the_database(settings: Settings) -> None:
    """A process hears what it says itself at once, though it is connected to nothing."""
    signals, heard = Signals(settings.database_dsn), list[str]()
    signals.on(Channel.ACCESS_CHANGED, heard.append)
    signals.send(Signal(Channel.ACCESS_CHANGED, "a key"))
    signals.send(Signal(Channel.WORK_READY, "cpu"))
    assert heard == ["a key"]


async def test_rolled_back_transaction_wakes_nobody(
    database: Database, other_process: Signals
) -> None:
    """What was rolled back is not announced."""
    with (
        other_process.listen(Channel.WORK_READY, "gpu") as rolled_back,
        other_process.listen(Channel.WORK_READY, "cpu") as committed,
    ):
        with contextlib.suppress(RuntimeError):
            async with database.transaction() as session:
                signal_after_commit(session, Signal(Channel.WORK_READY, "gpu"))
                raise RuntimeError
        async with database.transaction() as session:
            signal_after_commit(session, Signal(Channel.WORK_READY, "cpu"))
        await asyncio.wait_for(committed.wait(), 10)
        assert not rolled_back.is_set()


async def test_listener_comes_back_after_its_connection_was_cut(
    database: Database, other_process: Signals
) -> None:
    """A cut connection is made again, and everybody who waits looks once."""
    with other_process.listen(Channel.WORK_READY, "cpu") as woken:
        async with database.transaction() as session:
            await session.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE query LIKE 'LISTEN%' AND pid <> pg_backend_pid()"
                )
            )
        await asyncio.wait_for(woken.wait(), 10)
        woken.clear()
        database.signals.send(Signal(Channel.WORK_READY, "cpu"))
        await asyncio.wait_for(woken.wait(), 10)
