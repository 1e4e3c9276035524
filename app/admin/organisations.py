"""`python -m app.admin organisations …`."""

from typing import Annotated

import typer
from sqlalchemy import func, select

from app.accounts.names import Label
from app.accounts.repository import find_organisation
from app.accounts.service import create_organisation
from app.accounts.tables import Organisation, User
from app.admin.shell import checked, fail, operator, print_table, run
from app.audit.service import Action, record
from app.config import Settings
from app.db.session import Database

commands = typer.Typer(help="Organisations: the tenants of the platform.", no_args_is_help=True)


@commands.command("list")
def list_all() -> None:
    """List every organisation with the number of its users."""

    async def read(database: Database, _: Settings) -> list[tuple[object, ...]]:
        async with database.transaction() as session:
            rows = await session.execute(
                select(
                    Organisation.id,
                    Organisation.name,
                    func.count(User.id),
                    Organisation.runs_platform,
                    Organisation.created_at,
                )
                .outerjoin(User, User.organisation_id == Organisation.id)
                .group_by(Organisation.id)
                .order_by(Organisation.id)
            )
            return [tuple(row) for row in rows]

    rows = run(read)
    shown = [(*row[:3], "yes" if row[3] else "", f"{row[4]:%Y-%m-%d}") for row in rows]
    print_table(["id", "name", "users", "runs platform", "created"], shown)


@commands.command()
def create(name: Annotated[str, typer.Argument(callback=checked(Label))]) -> None:
    """Create an organisation; `users create --organisation NAME --role admin` gives it an admin."""

    async def make(database: Database, _: Settings) -> Organisation:
        async with database.transaction() as session:
            organisation = await create_organisation(session, name)
            record(
                session,
                operator(),
                Action.ORGANISATION_CREATED,
                organisation_id=organisation.id,
                target_id=organisation.id,
                data={"name": name},
            )
            return organisation

    typer.echo(f"Created the organisation {name} ({run(make).id}).")


_DEFAULT = -1
_Limit = typer.Option(min=_DEFAULT, help="0 is no limit; -1 is what the setting says.")


@commands.command("set")
def change(  # noqa: PLR0917
    name: Annotated[str, typer.Argument(callback=checked(Label))],
    retention_days: Annotated[
        int | None,
        typer.Option(
            min=_DEFAULT, max=36_500, help="Days that files are kept; -1 is what the model says."
        ),
    ] = None,
    max_active_jobs: Annotated[int | None, _Limit] = None,
    max_queued_jobs: Annotated[int | None, _Limit] = None,
    max_storage_bytes: Annotated[int | None, _Limit] = None,
    max_gpu_seconds: Annotated[int | None, _Limit] = None,
) -> None:
    """Change how long an organisation's files are kept, and how much it may use."""
    if retention_days == 0:
        fail("Files are kept for one day at least. Give --retention-days 1 or more, or -1.")
    given = {
        "retention_days": retention_days,
        "max_active_jobs": max_active_jobs,
        "max_queued_jobs": max_queued_jobs,
        "max_storage_bytes": max_storage_bytes,
        "max_gpu_seconds": max_gpu_seconds,
    }
    values = {
        key: None if value == _DEFAULT else value
        for key, value in given.items()
        if value is not None
    }
    if not values:
        fail("Nothing to change: give one of the options.")

    async def write(database: Database, _: Settings) -> bool:
        async with database.transaction() as session:
            organisation = await find_organisation(session, name)
            if organisation is None:
                return False
            for key, value in values.items():
                setattr(organisation, key, value)
            record(
                session,
                operator(),
                Action.ORGANISATION_CHANGED,
                organisation_id=organisation.id,
                target_id=organisation.id,
                data=values,
            )
            return True

    if not run(write):
        fail(f"There is no organisation {name}. `organisations list` shows them.")
    typer.echo(f"Changed the organisation {name}.")
