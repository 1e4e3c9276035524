"""Hints between processes over Postgres LISTEN/NOTIFY.

A signal says "look again", never what there is to see, and may be lost: whoever waits for one also
looks by itself now and then. NOTIFY takes a lock that all committing transactions share, so it is
sent on a connection of its own after the commit, many at a time.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import asyncpg

from app.logs import get_logger

log = get_logger(__name__)

STATEMENT_SECONDS = 10.0
PROOF_SECONDS = 30.0
"""How long a silence may be before the connection has to prove that it is one."""

_RECONNECT_SECONDS = 1.0
_CLOSE_SECONDS = 1.0


class Channel(StrEnum):
    """What a signal is about."""

    WORK_READY = "p3d_work_ready"
    """A queue (the payload) may have something to dispatch."""
    JOB_CHANGED = "p3d_job_changed"
    """A job (the payload is its id) has changed."""
    ACCESS_CHANGED = "p3d_access_changed"
    """What a key, session or user (the payload is its id) may do has changed or ended."""
    DELIVERY_READY = "p3d_delivery_ready"
    """There is something to deliver; the trigger that fills the outbox sends it, too."""


@dataclass(frozen=True)
class Signal:
    """One hint: the channel, and what of it has changed."""

    channel: Channel
    payload: str


class Signals:
    """Sends and receives signals for one process; reconnects by itself.

    Args:
        dsn: a `postgresql://` URL, as asyncpg takes it.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._outbox: set[Signal] = set()
        self._outbox_filled = asyncio.Event()
        self._waiting: defaultdict[tuple[Channel, str | None], set[asyncio.Event]] = defaultdict(
            set
        )
        self._callbacks: list[tuple[Channel, Callable[[str], None]]] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start the two connections in the background."""
        self._tasks = [
            asyncio.create_task(self._keep_sending(), name="signals-send"),
            asyncio.create_task(self._keep_listening(), name="signals-listen"),
        ]

    async def stop(self) -> None:
        """Close both connections; signals not yet sent are dropped."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    def send(self, signal: Signal) -> None:
        """Send soon; equal signals that wait together are sent once.

        This process calls back at once: a key that it revokes is refused before it says so.
        """
        self._outbox.add(signal)
        self._outbox_filled.set()
        self._call_back(signal.channel, signal.payload)

    async def flush(self) -> None:
        """Send what waits, in a process that has not called `start`: a command about to end.

        Raises:
            asyncpg.PostgresError, OSError: the database is away.
        """
        if self._outbox:
            async with self._connection() as connection:
                await self._send_batch(connection)

    def on(self, channel: Channel, callback: Callable[[str], None]) -> None:
        """Call back with the payload of every signal of a channel; twice with one of our own."""
        self._callbacks.append((channel, callback))

    @contextlib.contextmanager
    def listen(self, channel: Channel, payload: str | None = None) -> Iterator[asyncio.Event]:
        """An event that is set whenever a signal arrives; without a payload, for any of them."""
        event = asyncio.Event()
        key = (channel, payload)
        self._waiting[key].add(event)
        try:
            yield event
        finally:
            self._waiting[key].discard(event)
            if not self._waiting[key]:
                del self._waiting[key]

    def _receive(self, _: Any, __: int, channel: str, payload: str) -> None:
        name = Channel(channel)
        for key in ((name, payload), (name, None)):
            for event in self._waiting.get(key, ()):
                event.set()
        self._call_back(name, payload)

    def _call_back(self, channel: Channel, payload: str) -> None:
        for wanted, callback in self._callbacks:
            if wanted is channel:
                try:
                    callback(payload)
                except Exception:  # a hint must not fail what has been written already
                    log.exception("signal not heeded", channel=channel.value)

    def _wake_everybody(self) -> None:
        """After a gap nobody knows what was missed, so everybody looks."""
        for events in self._waiting.values():
            for event in events:
                event.set()

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        """A connection of its own, that does not wait for ever for one that is lost."""
        connection = await asyncpg.connect(
            self._dsn, timeout=STATEMENT_SECONDS, command_timeout=STATEMENT_SECONDS
        )
        try:
            yield connection
        finally:
            with contextlib.suppress(Exception):
                await connection.close(timeout=_CLOSE_SECONDS)

    async def _keep_sending(self) -> None:
        while True:
            try:
                async with self._connection() as connection:
                    await self._send_from(connection)
            except Exception as error:  # noqa: BLE001  (whatever it is, the next connection may do)
                log.warning("signals cannot be sent", error=str(error))
                await asyncio.sleep(_RECONNECT_SECONDS)

    async def _send_from(self, connection: Any) -> None:
        while True:
            await self._outbox_filled.wait()
            await self._send_batch(connection)

    async def _send_batch(self, connection: Any) -> None:
        self._outbox_filled.clear()
        batch, self._outbox = list(self._outbox), set()
        try:
            await connection.execute(
                "SELECT pg_notify(c, p) FROM unnest($1::text[], $2::text[]) AS t (c, p)",
                [signal.channel.value for signal in batch],
                [signal.payload for signal in batch],
            )
        except BaseException:
            self._outbox.update(batch)
            self._outbox_filled.set()
            raise

    async def _keep_listening(self) -> None:
        while True:
            try:
                async with self._connection() as connection:
                    closed = asyncio.Event()
                    connection.add_termination_listener(lambda _, closed=closed: closed.set())
                    for channel in Channel:
                        await connection.add_listener(channel.value, self._receive)
                    self._wake_everybody()
                    while not closed.is_set():
                        await first_of(closed, seconds=PROOF_SECONDS)
                        await connection.execute("SELECT 1")
            except Exception as error:  # noqa: BLE001  (whatever it is, the next connection may do)
                log.warning("signals cannot be received", error=str(error))
            await asyncio.sleep(_RECONNECT_SECONDS)


async def first_of(*events: asyncio.Event, seconds: float) -> None:
    """Wait for any of the events, but no longer than so many seconds."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waits:
            task.cancel()
