"""`python -m app.admin keys …`."""

from datetime import timedelta
from typing import Annotated
from uuid import UUID

import typer
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts import repository
from app.accounts.errors import KeyNotFoundError
from app.accounts.key_management import KeyRequest, OwnedKey, create_key, end_key
from app.accounts.key_management import rotate_key as rotate
from app.accounts.names import Label
from app.accounts.roles import Scope
from app.accounts.tables import ApiKey, KeyKind, Organisation, User
from app.admin.shell import checked, fail, operator, print_table, run
from app.admin.users import find_user
from app.config import Settings
from app.db.session import Database

commands = typer.Typer(help="API keys: of users and of GPU machines.", no_args_is_help=True)

Key = Annotated[str, typer.Argument(metavar="KEY", help="Its id, or its prefix as listed.")]
UserName = Annotated[str | None, typer.Option("--user", "-u", help="Keys of this user.")]
OfWorkers = Annotated[bool, typer.Option("--worker", "-w", help="Keys of GPU machines.")]


@commands.command("list")
def list_all(user: UserName = None, *, worker: OfWorkers = False) -> None:
    """List keys: of everybody, of one user, or of GPU machines."""

    async def read(database: Database, _: Settings) -> list[tuple[ApiKey, str | None]]:
        async with database.transaction() as session:
            query = select(ApiKey, User.username).outerjoin(User).order_by(ApiKey.id)
            if user:
                query = query.where(ApiKey.user_id == (await find_user(session, user)).id)
            if worker:
                query = query.where(ApiKey.kind == KeyKind.WORKER)
            return [(row[0], row[1]) for row in await session.execute(query)]

    print_table(
        ["id", "prefix", "name", "user", "scopes", "last used", "expires", "revoked"],
        [
            (
                *(key.id, key.prefix, key.name, username or "(GPU machine)"),
                *(",".join(key.scopes or ["all"]), key.last_used_at),
                *(key.expires_at, key.revoked_at),
            )
            for key, username in run(read)
        ],
    )


@commands.command()
def create(
    user: UserName = None,
    name: Annotated[str, typer.Option(callback=checked(Label), help="To tell keys apart.")] = (
        "default"
    ),
    scope: Annotated[
        list[Scope] | None, typer.Option(help="What it may be used for; all if left out.")
    ] = None,
    expires_in_days: Annotated[int | None, typer.Option(min=1, max=3660)] = None,
    *,
    worker: OfWorkers = False,
) -> None:
    """Create a key for a user (--user) or for GPU machines (--worker), and print it once."""
    if worker == (user is not None):
        raise typer.BadParameter("name either --user or --worker")
    if worker and scope:
        raise typer.BadParameter("a GPU machine's key has no scopes")
    wanted = KeyRequest(
        name=name,
        kind=KeyKind.WORKER if worker else KeyKind.USER,
        scopes=frozenset(scope) if scope else None,
        life=timedelta(days=expires_in_days) if expires_in_days else None,
    )

    async def make(database: Database, settings: Settings) -> tuple[OwnedKey, str]:
        async with database.transaction() as session:
            owner = await find_user(session, user) if user else None
            return await create_key(
                session,
                operator(),
                wanted,
                user=owner,
                secret_key=settings.secret_key.get_secret_value(),
                organisation_id=(
                    owner.organisation_id if owner else await _platform_organisation(session)
                ),
            )

    owned, key = run(make)
    typer.echo(f"Created the key {owned.key.id}. It is shown only now:", err=True)
    typer.echo(key)


async def _platform_organisation(session: AsyncSession) -> UUID | None:
    """Whose audit trail tells of GPU machines' keys."""
    found = select(Organisation.id).where(Organisation.runs_platform).order_by(Organisation.id)
    return (await session.execute(found)).scalars().first()


async def _find(session: AsyncSession, key: str) -> OwnedKey:
    try:
        key_id = UUID(key)
    except ValueError:
        found = (
            await session.scalars(select(ApiKey.id).where(ApiKey.prefix == key).limit(2))
        ).all()
        if len(found) > 1:
            fail(f"Several keys begin with {key}; name one by its id.")
        if not found:
            raise KeyNotFoundError(f"There is no key {key}.") from None
        key_id = found[0]
    locked = await repository.lock_key(session, key_id)
    if locked is None:
        raise KeyNotFoundError(f"There is no key {key}.")
    return OwnedKey(*locked)


@commands.command()
def revoke(key: Key) -> None:
    """Refuse a key from now on, in all processes."""

    async def end(database: Database, _: Settings) -> None:
        async with database.transaction() as session:
            whose = await _platform_organisation(session)
            await end_key(session, operator(), await _find(session, key), organisation_id=whose)

    run(end)
    typer.echo(f"Revoked {key}.")


@commands.command("rotate")
def rotate_key(
    key: Key,
    grace_seconds: Annotated[
        int, typer.Option(min=0, max=30 * 86400, help="How long the old key still works.")
    ] = 86400,
) -> None:
    """Make a key that takes the place of another one, and print it once."""

    async def change(database: Database, settings: Settings) -> tuple[OwnedKey, str]:
        async with database.transaction() as session:
            return await rotate(
                session,
                operator(),
                await _find(session, key),
                secret_key=settings.secret_key.get_secret_value(),
                grace=timedelta(seconds=grace_seconds),
                organisation_id=await _platform_organisation(session),
            )

    owned, new = run(change)
    typer.echo(
        f"The old key works for {grace_seconds} s. The new one, {owned.key.id}, is shown only now:",
        err=True,
    )
    typer.echo(new)
