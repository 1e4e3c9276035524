"""Connections of asyncpg itself, for the few statements whose cost counts (docs/decisions/)."""

from typing import Any

import asyncpg

from app.db.session import SERVER_SETTINGS

STATEMENT_SECONDS = 10.0


def plain_pool(dsn: str, *, size: int, record_class: type[Any] = asyncpg.Record) -> Any:
    """A pool for single statements, each a transaction of its own; await it to get it ready.

    Nothing is connected before it is needed, so the database may still be away. One statement
    leaves nothing behind to reset.

    Args:
        dsn: a `postgresql://` URL, as asyncpg takes it.
        size: connections at most.
        record_class: what rows are made of.
    """
    return asyncpg.create_pool(
        dsn,
        min_size=0,
        max_size=size,
        timeout=5,
        command_timeout=STATEMENT_SECONDS,
        record_class=record_class,
        reset=_no_reset,
        # Planned once for each connection, not for each value: in large tables the planner expects
        # to gain a little by planning anew, and loses as much as the statement takes.
        server_settings={**SERVER_SETTINGS, "plan_cache_mode": "force_generic_plan"},
    )


async def _no_reset(_: Any) -> None:
    """Leave the connection as it is."""
