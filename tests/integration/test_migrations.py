"""The migrations make the tables that the code knows, from nothing and from each version before."""

import asyncio
import subprocess
import sys
from uuid import uuid4

import asyncpg

from app.config import Settings
from tests.conftest import ROOT, environment


def _alembic(settings: Settings, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "alembic", *arguments],
        cwd=ROOT,
        env=environment(settings),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


async def test_migrations_make_the_tables_of_the_code(settings: Settings, migrated: None) -> None:
    """Nothing is in the code that a migration forgot, nor the other way round."""
    assert "No new upgrade operations detected" in await asyncio.to_thread(
        _alembic, settings, "check"
    )


async def test_migrations_can_be_taken_back(settings: Settings, migrated: None) -> None:
    """From nothing to the newest version, back to the first, and up again, in another database."""
    name = f"migrations_{uuid4().hex[:8]}"
    connection = await asyncpg.connect(settings.database_dsn)
    try:
        await connection.execute(f'CREATE DATABASE "{name}"')
        url = settings.database_url.rpartition("/")[0] + f"/{name}"
        other = settings.model_copy(update={"database_url": url})
        for arguments in (("upgrade", "head"), ("downgrade", "0001"), ("upgrade", "head")):
            await asyncio.to_thread(_alembic, other, *arguments)
        assert "No new upgrade" in await asyncio.to_thread(_alembic, other, "check")
    finally:
        await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        await connection.close()
