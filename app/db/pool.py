"""Connections of asyncpg itself, for the few statements whose cost counts (docs/decisions/)."""

from typing import Any
from uuid import UUID

import asyncpg

from app.db.session import CONNECT_SECONDS, SERVER_SETTINGS
from app.db.tenancy import TENANT_ROLE

STATEMENT_SECONDS = 10.0

# SET takes no parameters; a UUID is nothing but hexadecimal digits and dashes.
_ENTER = "SET app.organisation = '{}'"


class _TenantConnection(asyncpg.Connection):  # type: ignore[misc]
    """A connection that remembers for which organisation it is."""

    organisation_id: UUID | None = None

    async def enter(self, organisation_id: UUID) -> None:
        """See this organisation's rows only, from now on."""
        if self.organisation_id != organisation_id:
            self.organisation_id = None
            await self.execute(_ENTER.format(organisation_id))
            self.organisation_id = organisation_id


class PlainPool:
    """A pool for single statements of tenants, each a transaction of its own.

    Nothing is connected before it is needed, so the database may still be away. One statement
    leaves nothing behind to reset.

    Args:
        dsn: a `postgresql://` URL, as asyncpg takes it.
        size: connections at most.
        record_class: what rows are made of.
    """

    def __init__(self, dsn: str, *, size: int, record_class: type[Any] = asyncpg.Record) -> None:
        self._pool = asyncpg.create_pool(
            dsn,
            min_size=0,
            max_size=size,
            timeout=CONNECT_SECONDS,
            command_timeout=STATEMENT_SECONDS,
            record_class=record_class,
            connection_class=_TenantConnection,
            reset=_no_reset,
            # Planned once for each connection, not for each value: in large tables the planner
            # expects to gain a little by planning anew, and loses as much as the statement takes.
            server_settings={
                **SERVER_SETTINGS,
                "plan_cache_mode": "force_generic_plan",
                "role": TENANT_ROLE,
            },
        )

    async def start(self) -> None:
        """Get ready; the database may still be away."""
        await self._pool

    async def fetch(self, organisation_id: UUID, statement: str, *values: Any) -> Any:
        """The rows of a statement that sees one organisation's.

        Raises:
            TimeoutError: no connection was free, or made, in time; or the statement took too long.
            asyncpg.PostgresError, asyncpg.InterfaceError, OSError: as the driver says.
        """
        # The pool's own `fetch` waits for a free connection for ever.
        async with self._pool.acquire(timeout=CONNECT_SECONDS) as connection:
            await connection.enter(organisation_id)
            return await connection.fetch(statement, *values)

    def close(self) -> None:
        """Close every connection, at once if somebody holds on to one."""
        self._pool.terminate()


async def _no_reset(_: Any) -> None:
    """Leave the connection as it is."""
