"""Accounts: creating users and keys, and finding out who is asking."""

import time
from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts import repository
from app.accounts.errors import ForbiddenError, NotAuthenticatedError
from app.accounts.keys import NewKey, generate_key, hash_key, key_prefix, may_be_key
from app.accounts.passwords import hash_password
from app.accounts.principal import Principal, WorkerPrincipal
from app.accounts.roles import Role
from app.accounts.tables import ApiKey, KeyKind, Organisation, User
from app.db.session import Database, signal_after_commit
from app.db.signals import Channel, Signal

_CACHE_SECONDS = 5.0
_CACHE_ENTRIES = 10_000

AnyPrincipal = Principal | WorkerPrincipal


class Authenticator:
    """Turns API keys into principals.

    Principals are cached for a few seconds by the key's hash; a revoked key is dropped from every
    process's cache by a signal, and at the latest when those seconds are over.
    """

    def __init__(self, database: Database, secret_key: str) -> None:
        self._database = database
        self._secret_key = secret_key
        self._cache: dict[str, tuple[float, AnyPrincipal]] = {}
        database.signals.on(Channel.KEY_REVOKED, self._forget)

    def _forget(self, key_hash: str) -> None:
        self._cache.pop(key_hash, None)

    def forget_all(self) -> None:
        """Ask the database again for every key."""
        self._cache.clear()

    async def authenticate(self, key: str | None) -> AnyPrincipal:
        """The principal a key speaks for.

        Raises:
            NotAuthenticatedError: the key is missing, malformed, unknown, expired or revoked.
        """
        if not key:
            raise NotAuthenticatedError
        key_hash = hash_key(key, self._secret_key)
        cached = self._cache.get(key_hash)
        if cached and cached[0] > time.monotonic():
            return cached[1]
        if not may_be_key(key):
            raise NotAuthenticatedError("This is not an API key: check for a typing error.")
        async with self._database.transaction() as session:
            found = await repository.find_live_key(session, key_hash)
        if found is None:
            raise NotAuthenticatedError("This API key is unknown, expired or revoked.")
        api_key, user = found
        principal: AnyPrincipal = (
            Principal(
                user_id=user.id,
                organisation_id=user.organisation_id,
                username=user.username,
                role=Role(user.role),
                key_id=api_key.id,
            )
            if user
            else WorkerPrincipal(key_id=api_key.id)
        )
        if len(self._cache) >= _CACHE_ENTRIES:
            self.forget_all()
        self._cache[key_hash] = (time.monotonic() + _CACHE_SECONDS, principal)
        return principal


def require_user(principal: AnyPrincipal) -> Principal:
    """The principal, if it is a person.

    Raises:
        ForbiddenError: it is a GPU machine.
    """
    if not isinstance(principal, Principal):
        raise ForbiddenError("A worker key cannot be used here; use a user's API key.")
    return principal


async def get_or_create_organisation(session: AsyncSession, name: str) -> tuple[Organisation, bool]:
    """The organisation of this name, and whether it was made just now."""
    found = await repository.find_organisation(session, name)
    if found:
        return found, False
    organisation = Organisation(name=name)
    session.add(organisation)
    await session.flush()
    return organisation, True


async def create_user(
    session: AsyncSession,
    *,
    organisation: Organisation,
    username: str,
    password: str,
    role: Role = Role.OPERATOR,
) -> User:
    """Create a user; the name must be free."""
    user = User(
        organisation_id=organisation.id,
        username=username,
        password_hash=await hash_password(password),
        role=role,
    )
    session.add(user)
    await session.flush()
    return user


async def create_api_key(
    session: AsyncSession,
    *,
    secret_key: str,
    kind: KeyKind = KeyKind.USER,
    user: User | None = None,
    name: str = "default",
    key: NewKey | None = None,
) -> tuple[ApiKey, str]:
    """Create an API key; the second value is the key itself, known only now.

    Args:
        session: the transaction.
        secret_key: the key of the hash (`SECRET_KEY`).
        kind: whom it speaks for; a worker's key has no user.
        user: its user.
        name: what a person calls it.
        key: the key to store, where it comes from `.env`; else a random one.
    """
    new = key or generate_key(kind)
    api_key = ApiKey(
        kind=kind,
        user_id=user.id if user else None,
        name=name,
        prefix=new.prefix,
        key_hash=hash_key(new.key, secret_key),
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
    signal_after_commit(session, Signal(Channel.KEY_REVOKED, api_key.key_hash))
