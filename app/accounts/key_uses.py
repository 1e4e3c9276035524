"""When keys were last used: noted in memory on each request, written now and then."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from uuid import UUID

from sqlalchemy import func, or_, select, update

from app.accounts.tables import ApiKey
from app.db.base import seconds
from app.db.session import Database
from app.logs import get_logger

log = get_logger(__name__)

_WRITE_SECONDS = 10.0
_PRECISION_SECONDS = 60.0


class KeyUses:
    """Writes `last_used_at` of the keys that this process has seen, each at most once a minute.

    No request waits for it, and a key that is used a thousand times a second costs one write.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._used: set[UUID] = set()

    def note(self, key_id: UUID) -> None:
        """A key has been used."""
        self._used.add(key_id)

    async def write(self) -> None:
        """Write what was noted since the last time."""
        used, self._used = self._used, set()
        if not used:
            return
        # Another process may be writing the same keys; one of the two is enough.
        stale = (
            select(ApiKey.id)
            .where(
                ApiKey.id.in_(used),
                or_(
                    ApiKey.last_used_at.is_(None),
                    ApiKey.last_used_at < func.now() - seconds(_PRECISION_SECONDS),
                ),
            )
            .with_for_update(skip_locked=True)
        )
        async with self._database.transaction() as session:
            await session.execute(
                update(ApiKey)
                .where(ApiKey.id.in_(stale))
                .values(last_used_at=func.now())
                .execution_options(synchronize_session=False)
            )

    @contextlib.asynccontextmanager
    async def written(self) -> AsyncIterator[None]:
        """Write every few seconds while the block runs, and once more at its end."""

        async def keep_writing() -> None:
            while True:
                await asyncio.sleep(_WRITE_SECONDS)
                await self._write_if_possible()

        task = asyncio.create_task(keep_writing(), name="key-uses")
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await self._write_if_possible()

    async def _write_if_possible(self) -> None:
        try:
            await self.write()
        except Exception as error:  # noqa: BLE001  (the database may be away for a while)
            log.warning("uses of keys not written", error=f"{type(error).__name__}: {error}"[:300])
