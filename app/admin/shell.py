"""What all commands share: settings, the database, errors as sentences, tables as text."""

import asyncio
import getpass
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from pydantic import TypeAdapter, ValidationError
from sqlalchemy.exc import InterfaceError, OperationalError, ProgrammingError

from app.accounts.passwords import check_password, random_password
from app.audit.actor import Actor
from app.config import Settings, get_settings
from app.db.session import Database
from app.db.signals import Signals
from app.errors import AppError

T = TypeVar("T")

_AWAY = (OSError, InterfaceError, OperationalError)

PasswordOnStdin = Annotated[
    bool,
    typer.Option("--password-stdin", help="Read the password from standard input."),
]
"""Never an argument: those of a process are seen by everybody on the machine."""


def run(command: Callable[[Database, Settings], Awaitable[T]]) -> T:
    """Do a command; ends the process with a sentence and exit code 1 when it can't be done.

    Signals of what it has changed are sent before it returns, so that all API processes know.
    """
    settings = get_settings()

    async def do() -> T:
        signals = Signals(settings.database_dsn)
        database = Database(settings.database_url, signals, pool_size=1)
        try:
            result = await command(database, settings)
            await signals.flush()
            return result
        finally:
            await database.close()

    try:
        return asyncio.run(do())
    except AppError as error:
        fail(error.detail)
    except ProgrammingError as error:
        if "UndefinedTable" not in str(error.orig) and "UndefinedColumn" not in str(error.orig):
            raise
        fail("The database is not up to date. Run `alembic upgrade head` first.")
    except _AWAY as error:
        fail(f"The database of DATABASE_URL cannot be reached: {error}")


def fail(sentence: str) -> NoReturn:
    """End the process with a sentence and exit code 1."""
    typer.echo(sentence, err=True)
    raise typer.Exit(1)


def operator() -> Actor:
    """Whoever runs the command, for the audit trail."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container may have users without a name
        name = "unknown"
    return Actor(name=f"{name} (app.admin)")


def checked(kind: Any) -> Callable[[str | None], str | None]:
    """A typer callback that checks an option as the API does, and returns its one spelling."""
    adapter = TypeAdapter(kind)

    def check(value: str | None) -> str | None:
        if value is None:
            return None
        try:
            return str(adapter.validate_python(value))
        except ValidationError as error:
            reason = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise typer.BadParameter(reason) from error

    return check


def chosen_password(*, on_stdin: bool) -> tuple[str, bool]:
    """A password from standard input or else a random one, and whether it was made here."""
    if not on_stdin:
        return random_password(), True
    password = sys.stdin.readline().rstrip("\n")
    try:
        check_password(password)
    except ValueError as error:
        fail(f"The password {error}.")
    return password, False


def print_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows in columns, each as wide as it has to be; nothing for None."""
    lines = [list(headings), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Print what is known of one thing, a line for each fact; then an empty line."""
    lines = list(facts)
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        typer.echo(f"{name.ljust(width)}  {_cell(value)}".rstrip())
    typer.echo()


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    # What users have named must not move the cursor of whoever looks.
    return "".join(letter if letter.isprintable() else "?" for letter in text)
