"""`python -m app.initial_data`: the first accounts and the model catalog.

Run it as often as you like; it prints what it created, updated and left as it was.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sqlalchemy import func
from sqlalchemy.exc import InterfaceError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts import repository, service
from app.accounts.keys import hash_key
from app.accounts.passwords import hash_password, verify_password
from app.accounts.roles import Role
from app.accounts.tables import ApiKey, KeyKind, Organisation, User
from app.catalog.parameters import check_schema
from app.catalog.tables import Model
from app.config import Settings, get_settings
from app.db.session import Database
from app.db.signals import Signals

SEEDS = Path(__file__).parent / "db" / "seeds" / "ai_models.json"
FIRST_ORGANISATION = "Default"

Report = list[tuple[str, str]]


async def seed(session: AsyncSession, settings: Settings) -> Report:
    """Bring accounts and catalog to what the settings and the seed file say.

    Returns:
        What was done: pairs of `created`, `updated` or `unchanged` and a name.
    """
    organisation, created = await service.get_or_create_organisation(session, FIRST_ORGANISATION)
    organisation.runs_platform = True
    report: Report = [("created" if created else "unchanged", f"organisation {organisation.name}")]
    admin, done = await _seed_admin(session, settings, organisation)
    report.append((done, f"admin {admin.username}"))
    report.append(
        (
            await _seed_key(
                session,
                settings,
                settings.first_superuser_api_key.get_secret_value(),
                kind=KeyKind.USER,
                user=admin,
                name="FIRST_SUPERUSER_API_KEY",
            ),
            "API key FIRST_SUPERUSER_API_KEY",
        )
    )
    report.append(
        (
            await _seed_key(
                session,
                settings,
                settings.worker_api_key.get_secret_value(),
                kind=KeyKind.WORKER,
                user=None,
                name="WORKER_API_KEY",
            ),
            "API key WORKER_API_KEY",
        )
    )
    for values in json.loads(SEEDS.read_text()):
        report.append((await _seed_model(session, values), f"model {values['id']}"))
    return report


async def _seed_admin(
    session: AsyncSession, settings: Settings, organisation: Organisation
) -> tuple[User, str]:
    username = settings.first_superuser_username
    password = settings.first_superuser_password.get_secret_value()
    admin = await repository.find_user(session, username)
    if admin is None:
        created = await service.create_user(
            session,
            organisation=organisation,
            username=username,
            password=password,
            role=Role.ADMIN,
        )
        return created, "created"
    done = "unchanged"
    # Whoever has changed the first password does not get it back with the next upgrade.
    if admin.password_changed_at is None:
        right, _ = await verify_password(password, admin.password_hash)
        if not right:
            admin.password_hash = await hash_password(password)
            done = "updated"
    if admin.role != Role.ADMIN or not admin.is_active:
        admin.role, admin.is_active = Role.ADMIN, True
        done = "updated"
    return admin, done


async def _seed_key(
    session: AsyncSession,
    settings: Settings,
    key: str,
    *,
    kind: KeyKind,
    user: User | None,
    name: str,
) -> str:
    """Make the key of a setting valid, and every earlier value of that setting invalid."""
    secret_key = settings.secret_key.get_secret_value()
    current = hash_key(key, secret_key)
    done = "unchanged"
    for earlier in await repository.find_keys(session, kind=kind, name=name):
        if earlier.key_hash != current and earlier.revoked_at is None:
            await service.revoke_key(session, earlier)
            done = "updated"
    found: ApiKey | None = await repository.find_key(session, current)
    if found is None:
        await service.create_api_key(
            session,
            secret_key=secret_key,
            kind=kind,
            user=user,
            name=name,
            key=service.key_from_settings(key),
        )
        return "updated" if done == "updated" else "created"
    if found.revoked_at is not None:
        found.revoked_at = None
        return "updated"
    return done


async def _seed_model(session: AsyncSession, values: dict[str, Any]) -> str:
    check_schema(values["parameters"])
    model = await session.get(Model, values["id"])
    if model is None:
        session.add(Model(**values))
        await session.flush()
        return "created"
    changed = {name: value for name, value in values.items() if getattr(model, name) != value}
    if not changed:
        return "unchanged"
    for name, value in changed.items():
        setattr(model, name, value)
    model.updated_at = func.now()
    await session.flush()
    return "updated"


def _print_report(report: Iterable[tuple[str, str]]) -> None:
    for done, name in report:
        print(f"{done:>9}  {name}")


async def _run() -> None:
    settings = get_settings()
    database = Database(settings.database_url, Signals(settings.database_dsn), pool_size=1)
    try:
        async with database.transaction() as session:
            report = await seed(session, settings)
    except ProgrammingError as error:
        if "UndefinedTable" not in str(error.orig):
            raise
        sys.exit("The database has no tables yet. Run `alembic upgrade head` first.")
    except (OSError, InterfaceError) as error:
        sys.exit(f"The database of DATABASE_URL cannot be reached: {error}")
    finally:
        await database.close()
    _print_report(report)


def main() -> None:
    """Parse the command line and seed."""
    argparse.ArgumentParser(
        prog="python -m app.initial_data",
        description="Creates or updates the first admin, the API keys of .env and the model "
        "catalog. Run `alembic upgrade head` before.",
    ).parse_args()
    asyncio.run(_run())


if __name__ == "__main__":
    main()
