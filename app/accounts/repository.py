"""Queries of accounts."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import ColumnElement, and_, false, func, or_, select, true
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts.names import canonical_email, canonical_username
from app.accounts.roles import Role
from app.accounts.tables import ApiKey, KeyKind, Organisation, User


@dataclass(frozen=True)
class LiveKey:
    """A key that may be used, and whom it speaks for."""

    key: ApiKey
    user: User | None
    organisation: Organisation | None
    seconds_left: float | None
    """Until it expires, by the database's clock; None if it does not."""


def _is_live() -> ColumnElement[bool]:
    return and_(
        ApiKey.revoked_at.is_(None),
        or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > func.now()),
    )


async def find_live_key(session: AsyncSession, key_hash: str) -> LiveKey | None:
    """The key with this hash and its user, unless revoked, expired or of an inactive user."""
    row = (
        await session.execute(
            select(
                ApiKey,
                User,
                Organisation,
                func.extract("epoch", ApiKey.expires_at - func.now()),
            )
            .outerjoin(User, User.id == ApiKey.user_id)
            .outerjoin(Organisation, Organisation.id == User.organisation_id)
            .where(
                ApiKey.key_hash == key_hash,
                _is_live(),
                or_(ApiKey.user_id.is_(None), User.is_active),
            )
        )
    ).one_or_none()
    if row is None:
        return None
    return LiveKey(row[0], row[1], row[2], None if row[3] is None else float(row[3]))


async def find_key(session: AsyncSession, key_hash: str) -> ApiKey | None:
    """The key with this hash, whatever its state."""
    return (
        await session.execute(select(ApiKey).where(ApiKey.key_hash == key_hash))
    ).scalar_one_or_none()


async def find_keys(session: AsyncSession, *, kind: KeyKind, name: str) -> list[ApiKey]:
    """Every key of this kind and name, whatever its state."""
    return list(
        (
            await session.execute(select(ApiKey).where(ApiKey.kind == kind, ApiKey.name == name))
        ).scalars()
    )


async def find_user(session: AsyncSession, username: str) -> User | None:
    """The user of this name, in whatever spelling."""
    name = canonical_username(username)
    return (
        await session.execute(select(User).where(func.lower(User.username) == name))
    ).scalar_one_or_none()


async def find_user_by_login(session: AsyncSession, login: str) -> User | None:
    """The user of this name or e-mail address, in whatever spelling."""
    found = await find_user(session, login)
    if found is not None or "@" not in login:
        return found
    try:
        address = canonical_email(login)
    except ValueError:
        return None
    return (await session.scalars(select(User).where(User.email == address))).one_or_none()


async def lock_user(session: AsyncSession, user_id: UUID) -> User | None:
    """A user as they are now, whom nobody else can change until the transaction ends."""
    return (
        await session.scalars(
            select(User)
            .where(User.id == user_id)
            .with_for_update(key_share=True)
            .execution_options(populate_existing=True)
        )
    ).one_or_none()


async def list_users(
    session: AsyncSession, organisation_id: UUID | None, *, before: UUID | None, limit: int
) -> Sequence[User]:
    """Users of an organisation, or of all of them; newest first."""
    return (
        await session.scalars(
            select(User)
            .where(
                User.organisation_id == organisation_id if organisation_id else true(),
                User.id < before if before else true(),
            )
            .order_by(User.id.desc())
            .limit(limit)
        )
    ).all()


async def lock_organisation(session: AsyncSession, organisation_id: UUID) -> Organisation:
    """An organisation; changes to who its admins are wait for each other."""
    return await session.get_one(
        Organisation,
        organisation_id,
        with_for_update={"key_share": True},
        populate_existing=True,
    )


async def count_active_admins(session: AsyncSession, organisation_id: UUID) -> int:
    """How many active admins an organisation has."""
    return (
        await session.execute(
            select(func.count()).where(
                User.organisation_id == organisation_id, User.role == Role.ADMIN, User.is_active
            )
        )
    ).scalar_one()


async def find_organisation(session: AsyncSession, name: str) -> Organisation | None:
    """The organisation of this name."""
    return (
        await session.execute(select(Organisation).where(Organisation.name == name))
    ).scalar_one_or_none()


async def lock_key(session: AsyncSession, key_id: UUID) -> tuple[ApiKey, User | None] | None:
    """A key and its user, whatever the key's state; nobody else can change the key meanwhile."""
    row = (
        await session.execute(
            select(ApiKey, User)
            .outerjoin(User, User.id == ApiKey.user_id)
            .where(ApiKey.id == key_id)
            .with_for_update(of=ApiKey, key_share=True)
            .execution_options(populate_existing=True)
        )
    ).one_or_none()
    return (row[0], row[1]) if row else None


async def is_live(session: AsyncSession, key: ApiKey) -> bool:
    """Whether a key is neither revoked nor expired, by the database's clock."""
    found = await session.execute(select(_is_live()).where(ApiKey.id == key.id))
    return bool(found.scalar_one())


async def has_successor(session: AsyncSession, key: ApiKey) -> bool:
    """Whether a key has been rotated."""
    found = select(ApiKey.id).where(ApiKey.rotated_from == key.id)
    return (await session.execute(found)).first() is not None


async def count_live_keys(session: AsyncSession, user_id: UUID) -> int:
    """How many keys of a user may be used."""
    return (
        await session.execute(
            select(func.count()).select_from(ApiKey).where(ApiKey.user_id == user_id, _is_live())
        )
    ).scalar_one()


async def list_keys(
    session: AsyncSession,
    *,
    user_id: UUID | None = None,
    organisation_id: UUID | None = None,
    workers: bool = False,
    before: UUID | None = None,
    limit: int,
) -> Sequence[tuple[ApiKey, User | None]]:
    """Keys with their users, newest first, whatever their state.

    Args:
        session: the transaction.
        user_id: those of a user,
        organisation_id: or of everybody in an organisation,
        workers: or, or also, those of GPU machines.
        before: the last id of the page before.
        limit: how many.
    """
    wanted = or_(
        ApiKey.user_id == user_id if user_id else false(),
        User.organisation_id == organisation_id if organisation_id else false(),
        ApiKey.kind == KeyKind.WORKER if workers else false(),
    )
    rows = await session.execute(
        select(ApiKey, User)
        .outerjoin(User, User.id == ApiKey.user_id)
        .where(wanted, ApiKey.id < before if before else true())
        .order_by(ApiKey.id.desc())
        .limit(limit)
    )
    return [(row[0], row[1]) for row in rows]
