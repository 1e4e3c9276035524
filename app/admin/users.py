"""`python -m app.admin users …`."""

from typing import Annotated

import typer
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts import repository
from app.accounts.errors import UserNotFoundError
from app.accounts.names import Email, Username
from app.accounts.passwords import hash_password
from app.accounts.roles import Role
from app.accounts.tables import Organisation, User
from app.accounts.users import Changes, change_user, create_member, set_quotas
from app.admin.quotas import (
    DEFAULT,
    GpuSeconds,
    QueuedJobs,
    StorageBytes,
    chosen,
    own_quotas,
    print_quotas,
)
from app.admin.shell import (
    PasswordOnStdin,
    checked,
    chosen_password,
    fail,
    operator,
    print_facts,
    print_table,
    run,
)
from app.config import MAX_ACTIVE_JOBS, Settings
from app.db.session import Database
from app.initial_data import FIRST_ORGANISATION
from app.usage.quotas import Owner
from app.usage.repository import find_usage
from app.usage.service import quotas_of

commands = typer.Typer(help="Users: create, list, change.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="USERNAME", help="User name or e-mail address.")]
OrganisationName = Annotated[
    str | None, typer.Option("--organisation", "-o", help="The organisation, by name.")
]


async def find_user(session: AsyncSession, name: str) -> User:
    """The user of a name or e-mail address.

    Raises:
        UserNotFoundError: there is none.
    """
    user = await repository.find_user_by_login(session, name)
    if user is None:
        raise UserNotFoundError(f"There is no user {name}.")
    return user


async def find_organisation(session: AsyncSession, name: str) -> Organisation:
    """The organisation of a name; ends the process if there is none."""
    organisation = await repository.find_organisation(session, name)
    if organisation is None:
        fail(f"There is no organisation {name}; `organisations list` shows those there are.")
    return organisation


@commands.command("list")
def list_all(organisation: OrganisationName = None) -> None:
    """List users, of all organisations or of one, with the quotas they have been set."""

    async def read(database: Database, _: Settings) -> list[tuple[User, str]]:
        async with database.transaction() as session:
            query = select(User, Organisation.name).join(Organisation).order_by(User.id)
            if organisation:
                found = await find_organisation(session, organisation)
                query = query.where(User.organisation_id == found.id)
            return [(row[0], row[1]) for row in await session.execute(query)]

    print_table(
        ["id", "user name", "e-mail", "role", "organisation", "active", "created", "quotas set"],
        [
            (
                *(user.id, user.username, user.email, user.role, name),
                *("yes" if user.is_active else "no", f"{user.created_at:%Y-%m-%d}"),
                own_quotas(user),
            )
            for user, name in run(read)
        ],
    )


@commands.command()
def show(username: Name) -> None:
    """Show a user, and their quotas with what is used of them."""

    async def read(database: Database, settings: Settings) -> None:
        async with database.transaction() as session:
            user = await find_user(session, username)
            organisation = await session.get_one(Organisation, user.organisation_id)
            quotas = quotas_of(await find_usage(session, settings, user.id))
        print_facts(
            [
                ("id", user.id),
                ("user name", user.username),
                ("e-mail", user.email),
                ("role", user.role),
                ("organisation", organisation.name),
                ("active", "yes" if user.is_active else "no"),
                ("created", f"{user.created_at:%Y-%m-%d}"),
            ]
        )
        print_quotas(user, Owner.USER, quotas, settings)

    run(read)


@commands.command()
def create(
    username: Annotated[str, typer.Argument(callback=checked(Username))],
    role: Annotated[Role, typer.Option(help="What they may do.")] = Role.OPERATOR,
    organisation: OrganisationName = FIRST_ORGANISATION,
    email: Annotated[
        str | None, typer.Option(callback=checked(Email), help="Their e-mail address.")
    ] = None,
    *,
    password_stdin: PasswordOnStdin = False,
) -> None:
    """Create a user. Without --password-stdin a password is made and printed."""
    password, made_here = chosen_password(on_stdin=password_stdin)

    async def make(database: Database, _: Settings) -> User:
        password_hash = await hash_password(password)
        async with database.transaction() as session:
            found = await find_organisation(session, organisation or FIRST_ORGANISATION)
            return await create_member(
                session,
                operator(),
                organisation_id=found.id,
                username=username,
                password_hash=password_hash,
                role=role,
                email=email,
            )

    user = run(make)
    typer.echo(f"Created the {role} {user.username} ({user.id}).")
    _print_password(password, made_here=made_here)


def _print_password(password: str, *, made_here: bool) -> None:
    if made_here:
        typer.echo(f"Password: {password}")


def _change(name: str, changes: Changes) -> User:
    async def change(database: Database, _: Settings) -> User:
        async with database.transaction() as session:
            user = await find_user(session, name)
            return await change_user(session, operator(), user, changes)

    return run(change)


@commands.command()
def set_role(username: Name, role: Annotated[Role, typer.Argument()]) -> None:
    """Give a user another role, at once."""
    user = _change(username, Changes(role=role))
    typer.echo(f"{user.username} is {user.role} now.")


@commands.command("set")
def change(
    username: Name,
    *,
    max_active_jobs: Annotated[
        int | None,
        typer.Option(
            min=DEFAULT,
            max=MAX_ACTIVE_JOBS,
            metavar="NUMBER",
            help=f"Jobs dispatched or running: 1 to {MAX_ACTIVE_JOBS}, -1 what the setting says.",
        ),
    ] = None,
    max_queued_jobs: QueuedJobs = None,
    max_storage_bytes: StorageBytes = None,
    max_gpu_seconds: GpuSeconds = None,
) -> None:
    """Change how much a user may use, at once; what was left out stays."""
    if max_active_jobs == 0:
        fail(
            f"A user has 1 to {MAX_ACTIVE_JOBS} active jobs, or -1 for what the setting says. "
            "`users deactivate` lets somebody do nothing more."
        )
    values = chosen(
        max_active_jobs=max_active_jobs,
        max_queued_jobs=max_queued_jobs,
        max_storage_bytes=max_storage_bytes,
        max_gpu_seconds=max_gpu_seconds,
    )

    async def write(database: Database, _: Settings) -> User:
        async with database.transaction() as session:
            user = await find_user(session, username)
            set_quotas(session, operator(), user, values)
            return user

    typer.echo(f"Changed the user {run(write).username}.")


@commands.command()
def deactivate(username: Name) -> None:
    """Log a user out and refuse their keys, at once and until `activate`."""
    user = _change(username, Changes(is_active=False))
    typer.echo(f"{user.username} is deactivated.")


@commands.command()
def activate(username: Name) -> None:
    """Let a user who was deactivated in again."""
    user = _change(username, Changes(is_active=True))
    typer.echo(f"{user.username} is active.")


@commands.command()
def reset_password(username: Name, *, password_stdin: PasswordOnStdin = False) -> None:
    """Give a user another password and log them out. Without --password-stdin it is printed."""
    password, made_here = chosen_password(on_stdin=password_stdin)

    async def change(database: Database, _: Settings) -> User:
        password_hash = await hash_password(password)
        async with database.transaction() as session:
            user = await find_user(session, username)
            return await change_user(
                session, operator(), user, Changes(password_hash=password_hash)
            )

    user = run(change)
    typer.echo(f"{user.username} has another password now.")
    _print_password(password, made_here=made_here)
