"""`python -m app.admin organisations …`."""

from typing import Annotated

import typer
from sqlalchemy import func, select

from app.accounts.names import Label
from app.accounts.service import create_organisation
from app.accounts.tables import Organisation, User
from app.admin.shell import checked, operator, print_table, run
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
