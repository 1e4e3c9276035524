"""`python -m app.admin organisations …`."""

from typing import Annotated

import typer
from sqlalchemy import func, select

from app.accounts.names import Label
from app.accounts.service import create_organisation
from app.accounts.tables import Organisation, User
from app.admin.quotas import (
    DEFAULT,
    ActiveJobs,
    GpuSeconds,
    QueuedJobs,
    StorageBytes,
    chosen,
    own_quotas,
    print_quotas,
)
from app.admin.shell import checked, fail, operator, print_facts, print_table, run
from app.admin.users import find_organisation
from app.audit.service import Action, record
from app.config import Settings
from app.db.session import Database
from app.usage.quotas import Owner
from app.usage.repository import find_usage
from app.usage.service import quotas_of

commands = typer.Typer(help="Organisations: the tenants of the platform.", no_args_is_help=True)


@commands.command("list")
def list_all() -> None:
    """List every organisation with the number of its users and the quotas it has been set."""

    async def read(database: Database, _: Settings) -> list[tuple[Organisation, int]]:
        async with database.transaction() as session:
            rows = await session.execute(
                select(Organisation, func.count(User.id))
                .outerjoin(User, User.organisation_id == Organisation.id)
                .group_by(Organisation.id)
                .order_by(Organisation.id)
            )
            return [(row[0], row[1]) for row in rows]

    print_table(
        ["id", "name", "users", "runs platform", "created", "quotas set"],
        [
            (
                *(organisation.id, organisation.name, users),
                "yes" if organisation.runs_platform else "",
                f"{organisation.created_at:%Y-%m-%d}",
                own_quotas(organisation),
            )
            for organisation, users in run(read)
        ],
    )


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


@commands.command()
def show(name: Annotated[str, typer.Argument(callback=checked(Label))]) -> None:
    """Show an organisation's retention, and its quotas with what is used of them."""

    async def read(database: Database, settings: Settings) -> None:
        async with database.transaction() as session:
            organisation = await find_organisation(session, name)
            members = await session.scalars(
                select(User.id).where(User.organisation_id == organisation.id)
            )
            ids = members.all()
            # Whichever member's row: each has the sums of all of them.
            quotas = quotas_of(await find_usage(session, settings, ids[0])) if ids else None
        kept = organisation.retention_days
        print_facts(
            [
                ("id", organisation.id),
                ("name", organisation.name),
                ("users", len(ids)),
                ("files are kept", "as each model says" if kept is None else f"{kept} days"),
                ("runs platform", "yes" if organisation.runs_platform else "no"),
                ("created", f"{organisation.created_at:%Y-%m-%d}"),
            ]
        )
        print_quotas(organisation, Owner.ORGANISATION, quotas, settings)

    run(read)


@commands.command("set")
def change(
    name: Annotated[str, typer.Argument(callback=checked(Label))],
    *,
    retention_days: Annotated[
        int | None,
        typer.Option(
            min=DEFAULT, max=36_500, help="Days that files are kept; -1 is what the model says."
        ),
    ] = None,
    max_active_jobs: ActiveJobs = None,
    max_queued_jobs: QueuedJobs = None,
    max_storage_bytes: StorageBytes = None,
    max_gpu_seconds: GpuSeconds = None,
) -> None:
    """Change how long an organisation's files are kept, and how much it may use."""
    if retention_days == 0:
        fail("Files are kept for one day at least. Give --retention-days 1 or more, or -1.")
    values = chosen(
        retention_days=retention_days,
        max_active_jobs=max_active_jobs,
        max_queued_jobs=max_queued_jobs,
        max_storage_bytes=max_storage_bytes,
        max_gpu_seconds=max_gpu_seconds,
    )

    async def write(database: Database, _: Settings) -> None:
        async with database.transaction() as session:
            organisation = await find_organisation(session, name)
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

    run(write)
    typer.echo(f"Changed the organisation {name}.")
