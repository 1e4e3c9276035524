"""Sessions: one commit, at the edge of the request; services only flush."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, Request
from sqlalchemy import Executable, Row, event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)

from app.db.signals import Signal, Signals
from app.db.tenancy import TenantSession

_PENDING = "signals"

STATEMENT_SECONDS = 30.0
"""How long the server is waited for: a lost connection looks like one that is slow to answer."""

CONNECT_SECONDS = 5.0
"""How long a new connection, or one that is in use, is waited for."""

# A process that is frozen in mid-transaction must not keep its locks for ever.
SERVER_SETTINGS = {
    "application_name": "pipeline3d",
    "idle_in_transaction_session_timeout": "30s",
    "lock_timeout": "10s",
    "statement_timeout": f"{STATEMENT_SECONDS:.0f}s",
}


def _refuse_closed(connection: Any, _: object, __: object) -> None:
    """Make the pool connect anew where the server has hung up, as after a restart.

    The driver knows without asking; `pool_pre_ping` costs three round trips for each transaction.
    """
    if connection.driver_connection.is_closed():
        raise DisconnectionError


class Database:
    """The connection pool of one process, and the way into a transaction.

    Args:
        url: a `postgresql+asyncpg://` URL.
        signals: where the signals of committed transactions go.
        pool_size: connections kept open.
    """

    def __init__(self, url: str, signals: Signals, *, pool_size: int = 16) -> None:
        self.signals = signals
        self.engine: AsyncEngine = create_async_engine(
            url,
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_timeout=CONNECT_SECONDS,
            connect_args={
                "timeout": CONNECT_SECONDS,
                "command_timeout": STATEMENT_SECONDS,
                "server_settings": SERVER_SETTINGS,
            },
            # Parameters hold prompts and hashes, and errors go to the log.
            hide_parameters=True,
        )
        event.listen(self.engine.sync_engine, "checkout", _refuse_closed)
        self._single = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        self._sessions = async_sessionmaker(
            self.engine, sync_session_class=TenantSession, expire_on_commit=False
        )

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """One transaction: committed at the end of the block, rolled back on an exception.

        In a task that has entered a tenant it sees that organisation's rows only.

        Signals asked for with `signal_after_commit` are sent only once the commit is done, so
        nobody wakes up to find nothing.
        """
        async with self._sessions() as session:
            async with session.begin():
                yield session
            for signal in session.info.pop(_PENDING, []):
                self.signals.send(signal)

    @asynccontextmanager
    async def statements(self) -> AsyncIterator[AsyncConnection]:
        """A connection on which each statement is a transaction of its own: fewer round trips.

        For what concerns all organisations, or a job that the caller was found to have a right to.
        """
        async with self._single.connect() as connection:
            yield connection

    async def read(self, statement: Executable, parameters: Mapping[str, Any]) -> list[Row[Any]]:
        """The rows of one statement: one round trip where a transaction takes three."""
        async with self.statements() as connection:
            return list(await connection.execute(statement, parameters))

    async def close(self) -> None:
        """Close every connection."""
        await self.engine.dispose()


def signal_after_commit(session: AsyncSession, signal: Signal) -> None:
    """Send a signal to all processes when this session's transaction has been committed."""
    session.info.setdefault(_PENDING, []).append(signal)


async def get_database(request: Request) -> Database:
    """The process's database, for routes that do slow work between transactions."""
    database: Database = request.app.state.database
    return database


async def _get_session(
    database: Annotated[Database, Depends(get_database)],
) -> AsyncIterator[AsyncSession]:
    async with database.transaction() as session:
        yield session


DatabaseDependency = Annotated[Database, Depends(get_database)]
# "function": a plain `yield` dependency would commit after the response has been sent.
SessionDependency = Annotated[AsyncSession, Depends(_get_session, scope="function")]
