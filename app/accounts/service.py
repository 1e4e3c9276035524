"""Accounts: creating organisations, users and keys, for whoever has been found entitled to."""

from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts import repository
from app.accounts.errors import AccountExistsError
from app.accounts.keys import NewKey, generate_key, hash_key, key_prefix
from app.accounts.names import canonical_username
from app.accounts.passwords import hash_password
from app.accounts.roles import Role, Scope
from app.accounts.tables import ApiKey, KeyKind, Organisation, User
from app.db.session import signal_after_commit
from app.db.signals import Channel, Signal

_UNIQUE_VIOLATION = "23505"


async def get_or_create_organisation(session: AsyncSession, name: str) -> tuple[Organisation, bool]:
    """The organisation of this name, and whether it was made just now."""
    found = await repository.find_organisation(session, name)
    if found:
        return found, False
    return await create_organisation(session, name), True


async def create_organisation(session: AsyncSession, name: str) -> Organisation:
    """Create an organisation.

    Raises:
        AccountExistsError: there is one of this name.
    """
    organisation = Organisation(name=name, runs_platform=False)
    await _add(session, organisation)
    return organisation


async def create_user(
    session: AsyncSession,
    *,
    organisation: Organisation,
    username: str,
    password: str,
    role: Role = Role.OPERATOR,
) -> User:
    """Create a user, hashing the password within the transaction; see `add_user`."""
    return await add_user(
        session,
        organisation_id=organisation.id,
        username=username,
        password_hash=await hash_password(password),
        role=role,
    )


async def add_user(
    session: AsyncSession,
    *,
    organisation_id: UUID,
    username: str,
    password_hash: str,
    role: Role,
    email: str | None = None,
) -> User:
    """Create a user of whom the password's hash has been made already.

    Raises:
        AccountExistsError: there is one of this name or e-mail address.
    """
    user = User(
        organisation_id=organisation_id,
        username=canonical_username(username),
        email=email,
        password_hash=password_hash,
        role=role,
        is_active=True,
    )
    await _add(session, user)
    return user


async def _add(session: AsyncSession, row: Organisation | User) -> None:
    session.add(row)
    await flush_account(session)


async def flush_account(session: AsyncSession) -> None:
    """Write what is pending.

    Raises:
        AccountExistsError: a name in it is taken. The transaction can only be rolled back.
    """
    try:
        await session.flush()
    except IntegrityError as error:
        if getattr(error.orig, "sqlstate", None) == _UNIQUE_VIOLATION:
            raise AccountExistsError from error
        raise


async def create_api_key(
    session: AsyncSession,
    *,
    secret_key: str,
    kind: KeyKind = KeyKind.USER,
    user: User | None = None,
    name: str = "default",
    key: NewKey | None = None,
    scopes: frozenset[Scope] | None = None,
    expires_at: datetime | None = None,
    rotated_from: UUID | None = None,
) -> tuple[ApiKey, str]:
    """Create an API key; the second value is the key itself, known only now.

    Args:
        session: the transaction.
        secret_key: the key of the hash (`SECRET_KEY`).
        kind: whom it speaks for; a worker's key has no user.
        user: its user.
        name: what a person calls it.
        key: the key to store, where it comes from `.env`; else a random one.
        scopes: what it may be used for; None for all that its user may.
        expires_at: when it expires; None for never.
        rotated_from: the key that it replaces.
    """
    new = key or generate_key(kind)
    api_key = ApiKey(
        kind=kind,
        user_id=user.id if user else None,
        name=name,
        prefix=new.prefix,
        key_hash=hash_key(new.key, secret_key),
        scopes=None if scopes is None else sorted(scopes),
        expires_at=expires_at,
        rotated_from=rotated_from,
    )
    session.add(api_key)
    await session.flush()
    return api_key, new.key


def key_from_settings(key: str) -> NewKey:
    """A key as it stands in `.env`."""
    return NewKey(key=key, prefix=key_prefix(key))


async def revoke_key(session: AsyncSession, api_key: ApiKey) -> None:
    """Revoke a key in all processes."""
    api_key.revoked_at = datetime.now(UTC)
    await session.flush()
    forget_everywhere(session, api_key.id)


def forget_everywhere(session: AsyncSession, changed: UUID) -> None:
    """Let all processes ask again about a key, a session or a user, once this is committed."""
    signal_after_commit(session, Signal(Channel.ACCESS_CHANGED, str(changed)))
