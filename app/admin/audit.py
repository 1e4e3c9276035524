"""`python -m app.admin audit …`."""

from datetime import timedelta
from typing import Annotated

import typer
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

from app.accounts.tables import Organisation
from app.admin.shell import fail, operator, print_table, run
from app.audit import retention
from app.audit.retention import OldEvents, find_old
from app.config import Settings
from app.db.session import Database

commands = typer.Typer(
    help="The audit trail, which is kept for ever unless it is purged here.", no_args_is_help=True
)

# By SQLSTATE: insufficient_privilege, lock_not_available.
_REFUSALS: dict[object, str] = {
    "42501": "Only the owner of the table `audit_events` may purge it: set "
    "DATABASE_URL to that user's for this command.",
    "55P03": "Somebody else has the audit trail locked. Try again later.",
}


@commands.callback()
def _group() -> None:
    """Let `purge` be a command of its own, though it is the only one."""


@commands.command()
def purge(
    older_than_days: Annotated[
        int, typer.Option(min=1, max=36_500, help="Events older than this are deleted for good.")
    ],
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many it would be.")] = (
        False
    ),
) -> None:
    """Delete what is old from the audit trails of all organisations; each says that it was done.

    The user of DATABASE_URL has to own the table.
    """
    than = timedelta(days=older_than_days)

    async def do(database: Database, _: Settings) -> list[tuple[str, int, str]]:
        async with database.transaction() as session:
            found = await find_old(session, than)
            rows = await session.execute(select(Organisation.id, Organisation.name))
            names: dict[object, str] = {row.id: row.name for row in rows}
        told: list[tuple[str, int, str]] = []
        for old in found:
            before = sum(number for _, number, _ in told)
            number = old.events if dry_run else await _purge(database, old, than, before)
            name = names.get(old.organisation_id, "(nobody's)")
            told.append((name, number, f"{old.oldest:%Y-%m-%d}"))
        return told

    told = run(do)
    print_table(["organisation", "events", "oldest"], told)
    number = sum(number for _, number, _ in told)
    typer.echo(f"{'Would delete' if dry_run else 'Deleted'} {number} events.")


async def _purge(database: Database, old: OldEvents, than: timedelta, before: int) -> int:
    try:
        return await retention.purge(database, operator(), old.organisation_id, than)
    except DBAPIError as error:
        sentence = _REFUSALS.get(getattr(error.orig, "sqlstate", None))
        if sentence is None:
            raise
        fail(f"{sentence} {before} events of other organisations have been deleted.")
