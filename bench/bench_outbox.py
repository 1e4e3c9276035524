"""What the trigger that fills the outbox costs a create; exit status 1 beyond the limit.

`python bench/bench_outbox.py`. It starts its own servers. Creates without the trigger, with it and
nobody to tell, and with one webhook take turns in one database; ratios are medians over the rounds.
The limit is for those whom nobody is told of: at least 0.8 of the rate without the trigger.
"""

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import asyncpg  # noqa: E402
from bench_growth import Platform  # noqa: E402

from app.accounts.principal import Principal  # noqa: E402
from app.accounts.roles import Role  # noqa: E402
from app.jobs.creation import Draft  # noqa: E402
from devstack.stack import Stack  # noqa: E402

ROUNDS = 20
STATEMENTS = 100
LIMIT = 0.8

_WEBHOOK = """
INSERT INTO webhooks (id, organisation_id, user_id, url, events)
VALUES (uuidv7(), $1, $2, 'https://hooks.example/', '{job.created}')
"""


async def rate(platform: Platform, user: Principal, together: int) -> float:
    """Jobs a second, so many of them in each statement."""
    known = await platform.models.read("inflate-v1")
    started = time.perf_counter()
    for _ in range(STATEMENTS):
        drafts = [Draft(known, {"seed": 7}, None, "r", "t") for _ in range(together)]
        rows = await asyncio.gather(*(platform.writer.write(user, draft) for draft in drafts))
        assert all(row["id"] for row in rows)
    return STATEMENTS * together / (time.perf_counter() - started)


async def compare(platform: Platform, connection: Any, together: int) -> dict[str, list[float]]:
    """The rates of each variant, round by round."""
    row = await connection.fetchrow("SELECT id, organisation_id FROM users LIMIT 1")
    user = Principal(row["id"], row["organisation_id"], "admin", Role.ADMIN)
    variants: dict[str, Sequence[str]] = {
        "no trigger": ("ALTER TABLE job_events DISABLE TRIGGER queue_deliveries",),
        "nobody to tell": ("ALTER TABLE job_events ENABLE TRIGGER queue_deliveries",),
        "one webhook": ("ALTER TABLE job_events ENABLE TRIGGER queue_deliveries", _WEBHOOK),
    }
    rates: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(ROUNDS + 1):
        for name, (switch, *webhook) in variants.items():
            await connection.execute(switch)
            for statement in webhook:
                await connection.execute(statement, user.organisation_id, user.user_id)
            found = await rate(platform, user, together)
            if number:  # the first round warms up
                rates[name].append(found)
            await connection.execute("TRUNCATE deliveries, webhooks")
    return rates


async def run(stack: Stack) -> bool:
    """Measure and print; whether the limit was met."""
    met = True
    print("| jobs a statement | variant | jobs/s | of no trigger |\n|---:|---|---:|---:|")
    async with Platform(stack, stack.settings["DATABASE_URL"]) as platform:
        connection = await asyncpg.connect(platform.settings.database_dsn)
        for together in (1, 32):
            rates = await compare(platform, connection, together)
            for name, found in rates.items():
                ratios = [a / b for a, b in zip(found, rates["no trigger"], strict=True)]
                ratio = statistics.median(ratios)
                print(f"| {together} | {name} | {statistics.median(found):.0f} | {ratio:.2f} |")
                met &= name != "nobody to tell" or ratio >= LIMIT
        await connection.close()
    return met


def main() -> int:
    """Measure everything; 1 if the limit was missed."""
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f} before")
    with tempfile.TemporaryDirectory(prefix="bench-outbox-") as folder:
        stack = Stack(Path(folder).resolve(), fast=True)
        try:
            stack.start_servers()
            stack.migrate()
            met = asyncio.run(run(stack))
        finally:
            stack.stop()
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
