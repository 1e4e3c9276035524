"""A thread that looks at the database all the time, whatever becomes of it."""

import asyncio
import threading

import asyncpg

EVERY_SECONDS = 0.05

ACTIVE = """
SELECT coalesce(max(active), 0) FROM (
    SELECT count(*) AS active FROM attempts JOIN jobs ON jobs.id = attempts.job_id
    WHERE attempts.status IN ('DISPATCHED', 'RUNNING') GROUP BY jobs.user_id
) users
"""
UNFINISHED = "SELECT count(*) FROM jobs WHERE status IN ('QUEUED', 'RUNNING')"


class Sampler:
    """Notes the most active jobs that any user has had, and how many jobs have not ended."""

    def __init__(self, dsn: str) -> None:
        self.samples = 0
        self.most_active = 0
        self.unfinished = 0
        self._dsn = dsn
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()
        self._thread.join()

    async def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                connection = await asyncpg.connect(self._dsn, timeout=5)
                try:
                    while not self._stopping.is_set():
                        await self._look(connection)
                finally:
                    connection.terminate()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
                await asyncio.sleep(EVERY_SECONDS)

    async def _look(self, connection: asyncpg.Connection) -> None:
        active = await connection.fetchval(ACTIVE, timeout=5)
        self.unfinished = await connection.fetchval(UNFINISHED, timeout=5)
        self.most_active = max(self.most_active, active)
        self.samples += 1
        await asyncio.sleep(EVERY_SECONDS)
