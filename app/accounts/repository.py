"""Queries of accounts."""

from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts.tables import ApiKey, KeyKind, Organisation, User


async def find_live_key(session: AsyncSession, key_hash: str) -> tuple[ApiKey, User | None] | None:
    """The key with this hash and its user, unless revoked, expired or of an inactive user."""
    row = (
        await session.execute(
            select(ApiKey, User)
            .outerjoin(User, User.id == ApiKey.user_id)
            .where(
                ApiKey.key_hash == key_hash,
                ApiKey.revoked_at.is_(None),
                or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > func.now()),
                or_(ApiKey.user_id.is_(None), User.is_active),
            )
        )
    ).one_or_none()
    return (row[0], row[1]) if row else None


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
    """The user of this name, in whatever case it is written."""
    return (
        await session.execute(select(User).where(func.lower(User.username) == username.lower()))
    ).scalar_one_or_none()


async def find_organisation(session: AsyncSession, name: str) -> Organisation | None:
    """The organisation of this name."""
    return (
        await session.execute(select(Organisation).where(Organisation.name == name))
    ).scalar_one_or_none()
