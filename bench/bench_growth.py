"""What the hot queries cost in tables of 1 000 to 1 000 000 jobs; exit status 1 if they grow.

`python bench/bench_growth.py [--plot picture.png] [jobs …]`. It starts its own servers, fills a
database for each size and times, in this process, what the API and the dispatcher call; sizes take
turns, so that whatever else the machine does slows all of them. The limit: the median at the
largest size is at most 1.5 times that at 10 000 jobs.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import cycle
from pathlib import Path
from typing import Any, Self
from uuid import UUID

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import asyncpg  # noqa: E402
from load.plot import draw_plot  # noqa: E402
from sqlalchemy.ext.asyncio import AsyncSession  # noqa: E402

from app.accounts.principal import Principal  # noqa: E402
from app.accounts.roles import Role  # noqa: E402
from app.catalog.known import KnownModels  # noqa: E402
from app.config import Settings  # noqa: E402
from app.db import metadata as _all_tables  # noqa: E402, F401  (relations need every table)
from app.db.base import new_id  # noqa: E402
from app.db.session import Database  # noqa: E402
from app.db.signals import Signals  # noqa: E402
from app.initial_data import seed  # noqa: E402
from app.jobs.admission import admit_jobs  # noqa: E402
from app.jobs.claiming import take  # noqa: E402
from app.jobs.creation import Draft, JobWriter  # noqa: E402
from app.jobs.lifecycle import JobStatus  # noqa: E402
from app.jobs.poll import JobReader  # noqa: E402
from app.jobs.schemas import JobFilters  # noqa: E402
from app.jobs.service import list_jobs  # noqa: E402
from app.storage.minio_store import MinioStore  # noqa: E402
from contract.attempts import ClaimRequest  # noqa: E402
from devstack.stack import Stack  # noqa: E402
from tests.support.many_jobs import busiest_user, make_many_jobs  # noqa: E402

SIZES = (1_000, 10_000, 100_000, 1_000_000)
BASE = 10_000
FACTOR = 1.5
ROUNDS = 10
TIMES = 40
PAGE = 21

Call = Callable[[], Awaitable[Any]]


class Platform:
    """What the API and the dispatcher consist of, in one process."""

    def __init__(self, stack: Stack, database_url: str) -> None:
        given = {**stack.settings, "DATABASE_URL": database_url}
        values = {name.lower(): value for name, value in given.items() if value}
        self.settings = Settings(_env_file=None, **values)  # type: ignore[call-arg]
        dsn = self.settings.database_dsn
        signals = Signals(dsn)
        self.database = Database(self.settings.database_url, signals)
        self.store = MinioStore(self.settings)
        self.models = KnownModels(self.database)
        self.reader = JobReader(dsn, self.database, self.store, self.settings)
        self.writer = JobWriter(dsn, signals, self.settings.worker_live_seconds, 1 << 40)

    async def __aenter__(self) -> Self:
        async with self.database.transaction() as session:
            await seed(session, self.settings)
        await self.reader.start()
        await self.writer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.reader.close()
        await self.writer.close()
        await self.store.close()
        await self.database.close()

    @asynccontextmanager
    async def undone(self) -> AsyncIterator[AsyncSession]:
        """A transaction that leaves nothing behind."""
        async with AsyncSession(self.database.engine, expire_on_commit=False) as session:
            yield session
            await session.rollback()


async def _some_jobs(connection: Any, status: str) -> list[tuple[Principal, UUID]]:
    rows = await connection.fetch(
        "SELECT user_id, organisation_id, id FROM jobs WHERE status = $1 "
        "ORDER BY random() LIMIT 1000",
        status,
    )
    return [(Principal(row[0], row[1], "many", Role.OPERATOR), row[2]) for row in rows]


async def calls(platform: Platform, connection: Any) -> dict[str, Call]:
    """What is measured, by name."""
    user_id, organisation_id = await busiest_user(connection)
    user = Principal(user_id, organisation_id, "many", Role.OPERATOR)
    admin = Principal(user_id, organisation_id, "many", Role.ADMIN)
    polled = cycle(await _some_jobs(connection, "SUCCEEDED"))
    waiting = cycle(await _some_jobs(connection, "QUEUED"))
    attempt_id = await connection.fetchval(
        "SELECT id FROM attempts WHERE status = 'DISPATCHED' ORDER BY id LIMIT 1"
    )
    known = await platform.models.read("inflate-v1")
    failed = JobFilters(status=[JobStatus.FAILED])

    async def dispatch() -> None:
        async with platform.undone() as session:
            assert await admit_jobs(session, platform.settings)

    async def claim() -> None:
        async with platform.undone() as session:
            request = ClaimRequest(worker_name="many-1", claim_id=new_id())
            await take(await session.connection(), platform.settings, attempt_id, request)

    async def list_own() -> None:
        async with platform.database.transaction() as session:
            await list_jobs(session, user, JobFilters(), before=None, limit=PAGE)

    async def list_failed() -> None:
        async with platform.database.transaction() as session:
            assert await list_jobs(session, admin, failed, before=None, limit=PAGE)

    async def poll() -> None:
        await platform.reader.look(*next(polled))

    async def poll_waiting() -> None:
        platform.reader.forget_all()
        await platform.reader.look(*next(waiting))

    async def create() -> None:
        row = await platform.writer.write(user, Draft(known, {"seed": 7}, None, "r", "t"))
        assert row["id"]

    return {
        "dispatch pass": dispatch,
        "claim": claim,
        "list, own": list_own,
        "list, all FAILED": list_failed,
        "poll, ended": poll,
        "poll, QUEUED": poll_waiting,
        "create": create,
    }


async def time_calls(call: Call, times: int) -> list[float]:
    """How long each call took, in milliseconds."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        await call()
        taken.append((time.perf_counter() - started) * 1000)
    return taken


async def prepare(platform: Platform, size: int) -> dict[str, Call]:
    """Fill a platform's tables; answers what is measured on it."""
    connection = await asyncpg.connect(platform.settings.database_dsn)
    try:
        await make_many_jobs(connection, 0, size)
        await connection.execute("CHECKPOINT")
        return await calls(platform, connection)
    finally:
        await connection.close()


async def measure(stack: Stack, sizes: list[int]) -> dict[str, list[float]]:
    """The medians of every call at every size, in milliseconds."""
    assert stack.postgres is not None
    medians: dict[str, list[float]] = {}
    async with AsyncExitStack() as opened:
        prepared = []
        for size in sizes:
            url = stack.postgres.create_database(f"jobs_{size}", template=stack.postgres.database)
            platform = await opened.enter_async_context(Platform(stack, url))
            prepared.append(await prepare(platform, size))
        for name in prepared[0]:
            taken: list[list[float]] = [[] for _ in sizes]
            for _ in range(ROUNDS):
                for seen, platform_calls in zip(taken, prepared, strict=True):
                    await time_calls(platform_calls[name], TIMES // 10)  # fill the caches again
                    seen.extend(await time_calls(platform_calls[name], TIMES))
            medians[name] = [statistics.median(times) for times in taken]
    return medians


def report(sizes: list[int], medians: dict[str, list[float]]) -> bool:
    """Print the table; whether nothing grows."""
    print(f"\n| p50 ms, jobs: | {' | '.join(f'{size:,}' for size in sizes)} | growth | at most | |")
    print("|---|" + "---:|" * (len(sizes) + 2) + "---|")
    met = True
    for name, values in medians.items():
        growth = values[-1] / values[sizes.index(BASE) if BASE in sizes else 0]
        met &= growth <= FACTOR
        cells = " | ".join(f"{value:.2f}" for value in values)
        verdict = "met" if growth <= FACTOR else "MISSED"
        print(f"| {name} | {cells} | {growth:.2f} | {FACTOR} | {verdict} |")
    return met


def main() -> int:
    """Measure everything; 1 if a limit was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot", type=Path, help="a picture to draw")
    parser.add_argument("sizes", type=int, nargs="*")
    arguments = parser.parse_args()
    sizes = sorted(arguments.sizes or SIZES)
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f} before")
    with tempfile.TemporaryDirectory(prefix="bench-growth-") as folder:
        stack = Stack(Path(folder).resolve(), fast=True)
        try:
            stack.start_servers()
            stack.migrate()
            medians = asyncio.run(measure(stack, sizes))
        finally:
            stack.stop()
    met = report(sizes, medians)
    print(f"load average {os.getloadavg()[0]:.1f} after")
    if arguments.plot:
        draw_plot(arguments.plot, "Median time of each call", sizes, medians)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
