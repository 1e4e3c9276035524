"""Which errors of the database are worth another try, whichever way the statement went."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from app.config import Settings
from app.db.pool import PlainPool
from app.db.session import Database
from app.web.problems import may_pass, problem_of

Ask = Callable[[str, list[Any]], Awaitable[Any]]


@pytest.fixture(params=["plain", "sqlalchemy"])
async def ask(
    request: pytest.FixtureRequest, settings: Settings, database: Database
) -> AsyncIterator[Ask]:
    """A way to the database; values are named `$1`, `$2` …."""
    pool = PlainPool(settings.database_dsn, size=1)
    await pool.start()
    # As the owner again: a tenant may not end connections.
    await pool.fetch(uuid4(), "SELECT set_config('role', 'none', false)")

    async def plain(statement: str, values: list[Any]) -> Any:
        return await pool.fetch(uuid4(), statement, *values)

    async def sqlalchemy(statement: str, values: list[Any]) -> Any:
        named = {f"v{place}": value for place, value in enumerate(values, 1)}
        return await database.read(text(statement.replace("$", ":v")), named)

    yield plain if request.param == "plain" else sqlalchemy
    pool.close()


def failing_with(state: str) -> str:
    """A statement that fails with an SQLSTATE."""
    return f"DO 'BEGIN RAISE SQLSTATE ''{state}''; END'"


@pytest.mark.parametrize(
    "statement",
    [
        *map(failing_with, ("40001", "40P01", "53300", "55P03", "57P03", "08006", "08P01")),
        "SELECT pg_terminate_backend(pg_backend_pid())",
    ],
)
async def test_may_pass(ask: Ask, statement: str) -> None:
    """The server is busy, going down or away: 503."""
    with pytest.raises(Exception) as caught:  # noqa: PT011  (of either library)
        await ask(statement, [])
    assert may_pass(caught.value)
    assert problem_of(caught.value).status == 503


@pytest.mark.parametrize(
    ("statement", "values"),
    [
        ("SELECT no_such_column", []),
        ("SELECT FROM no_such_table", []),
        ("SELECT 1/0", []),
        (failing_with("23505"), []),
        ("SELECT CAST($1 AS integer)", ["no number"]),
        ("SELECT CAST($1 AS text)", ["\ud800"]),
        ("SELECT CAST($1 AS text)", ["\x00"]),
    ],
)
async def test_would_fail_again(ask: Ask, statement: str, values: list[Any]) -> None:
    """A bug, of the statement or of what was put in, is no 503 and not hidden."""
    with pytest.raises(Exception) as caught:  # noqa: PT011  (of either library)
        await ask(statement, values)
    assert not may_pass(caught.value)
    with pytest.raises(type(caught.value)):
        problem_of(caught.value)
