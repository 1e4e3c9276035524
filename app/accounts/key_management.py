"""API keys, as people make, rotate and revoke them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import func, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts import repository
from app.accounts.errors import (
    ForbiddenError,
    KeyNotFoundError,
    KeyStateError,
    TooManyKeysError,
)
from app.accounts.principal import Principal
from app.accounts.roles import Permission, Scope
from app.accounts.service import create_api_key, forget_everywhere, revoke_key
from app.accounts.tables import ApiKey, KeyKind, User
from app.audit.actor import Actor
from app.audit.service import Action, record
from app.db.base import seconds

MAX_KEYS = 50
"""How many keys a user may have that work."""


@dataclass(frozen=True)
class KeyRequest:
    """The key that is wanted."""

    name: str
    kind: KeyKind = KeyKind.USER
    scopes: frozenset[Scope] | None = None
    life: timedelta | None = None


@dataclass(frozen=True)
class OwnedKey:
    """A key and its user; a GPU machine's key has none."""

    key: ApiKey
    user: User | None

    def organisation_id(self, actor_organisation_id: UUID | None) -> UUID | None:
        """Whose audit trail its changes belong to: for a GPU machine's key that of who acts."""
        return self.user.organisation_id if self.user else actor_organisation_id


async def list_keys(
    session: AsyncSession,
    principal: Principal,
    *,
    everybody: bool,
    before: UUID | None,
    limit: int,
) -> Sequence[OwnedKey]:
    """The principal's keys, or all that they manage; newest first.

    Raises:
        ForbiddenError: the role may not.
    """
    principal.require(Permission.MANAGE_USERS if everybody else Permission.MANAGE_OWN_ACCOUNT)
    found = await repository.list_keys(
        session,
        user_id=None if everybody else principal.user_id,
        organisation_id=principal.organisation_id if everybody else None,
        workers=everybody and principal.may(Permission.MANAGE_WORKER_KEYS),
        before=before,
        limit=limit,
    )
    return [OwnedKey(key, user) for key, user in found]


async def create_own_key(
    session: AsyncSession,
    principal: Principal,
    actor: Actor,
    wanted: KeyRequest,
    *,
    secret_key: str,
) -> tuple[OwnedKey, str]:
    """Make a key for the principal, or for a GPU machine; the second value is the key itself.

    Raises:
        ForbiddenError: the role may not, or the key could do more than the one that makes it.
        TooManyKeysError: there are too many that work.
    """
    if wanted.kind == KeyKind.WORKER:
        principal.require(Permission.MANAGE_WORKER_KEYS)
        user = None
    else:
        principal.require(Permission.MANAGE_OWN_ACCOUNT)
        user = await repository.lock_user(session, principal.user_id)
        _require_no_stronger(principal, wanted.scopes)
        if await repository.count_live_keys(session, principal.user_id) >= MAX_KEYS:
            raise TooManyKeysError
    return await create_key(
        session,
        actor,
        wanted,
        user=user,
        secret_key=secret_key,
        organisation_id=principal.organisation_id,
    )


async def create_key(
    session: AsyncSession,
    actor: Actor,
    wanted: KeyRequest,
    *,
    user: User | None,
    secret_key: str,
    organisation_id: UUID | None,
    rotated_from: UUID | None = None,
) -> tuple[OwnedKey, str]:
    """Make a key and say so in an organisation's audit trail."""
    key, shown = await create_api_key(
        session,
        secret_key=secret_key,
        kind=wanted.kind,
        user=user,
        name=wanted.name,
        scopes=wanted.scopes,
        expires_at=datetime.now(UTC) + wanted.life if wanted.life else None,
        rotated_from=rotated_from,
    )
    action = Action.KEY_ROTATED if rotated_from else Action.KEY_CREATED
    _record(session, actor, action, key, organisation_id, rotated_from=rotated_from)
    return OwnedKey(key, user), shown


async def find_managed_key(session: AsyncSession, principal: Principal, key_id: UUID) -> OwnedKey:
    """A key that the principal may end: an own one, one of the organisation's, or a machine's.

    Raises:
        KeyNotFoundError: there is none, or it is another organisation's.
        ForbiddenError: it is a colleague's, and the role does not reach it.
    """
    found = await repository.lock_key(session, key_id)
    if found is None:
        raise KeyNotFoundError
    key, user = found
    if user is None:
        if not principal.may(Permission.MANAGE_WORKER_KEYS):
            raise KeyNotFoundError
    elif user.organisation_id != principal.organisation_id:
        raise KeyNotFoundError
    elif user.id == principal.user_id:
        principal.require(Permission.MANAGE_OWN_ACCOUNT)
    elif not principal.may(Permission.MANAGE_USERS):
        principal.require_scope(Permission.MANAGE_USERS)
        raise ForbiddenError("This key is a colleague's, and your role does not reach it.")
    return OwnedKey(key, user)


def require_rotatable(principal: Principal, owned: OwnedKey) -> None:
    """Raise `ForbiddenError` if somebody would learn a key by which a colleague is known."""
    if owned.user is not None and owned.user.id != principal.user_id:
        raise ForbiddenError(
            "Only its owner can rotate a key, since the new one is shown. You can revoke it."
        )
    _require_no_stronger(principal, _scopes(owned.key))


def _scopes(key: ApiKey) -> frozenset[Scope] | None:
    return None if key.scopes is None else frozenset(map(Scope, key.scopes))


def _require_no_stronger(principal: Principal, scopes: frozenset[Scope] | None) -> None:
    """Raise `ForbiddenError` if a key could do more than the one that asks for it."""
    if principal.scopes is not None and not (scopes or set(Scope)) <= principal.scopes:
        raise ForbiddenError("A key can't make one with more scopes than it has itself.")


async def rotate_key(
    session: AsyncSession,
    actor: Actor,
    owned: OwnedKey,
    *,
    secret_key: str,
    grace: timedelta,
    organisation_id: UUID | None,
) -> tuple[OwnedKey, str]:
    """Make a key that takes the place of another one, which works on for a while.

    The new one has the same name, kind and scopes, and lives as long as the old one was to.

    Raises:
        KeyStateError: the key does not work any more, or has been rotated already.
    """
    key = owned.key
    if not await repository.is_live(session, key):
        raise KeyStateError("This key is revoked or expired. Make a new one instead.")
    if await repository.has_successor(session, key):
        raise KeyStateError("This key has been rotated already. Rotate the one that replaced it.")
    wanted = KeyRequest(
        name=key.name,
        kind=KeyKind(key.kind),
        scopes=_scopes(key),
        life=key.expires_at - key.created_at if key.expires_at else None,
    )
    made = await create_key(
        session,
        actor,
        wanted,
        user=owned.user,
        secret_key=secret_key,
        organisation_id=owned.organisation_id(organisation_id),
        rotated_from=key.id,
    )
    await session.execute(
        update(ApiKey)
        .where(ApiKey.id == key.id)
        .values(
            expires_at=func.least(ApiKey.expires_at, func.now() + seconds(grace.total_seconds()))
        )
    )
    forget_everywhere(session, key.id)
    return made


async def end_key(
    session: AsyncSession, actor: Actor, owned: OwnedKey, *, organisation_id: UUID | None
) -> None:
    """Revoke a key everywhere, and say so; nothing changes if it is revoked already."""
    if owned.key.revoked_at is not None:
        return
    await revoke_key(session, owned.key)
    whose = owned.organisation_id(organisation_id)
    _record(session, actor, Action.KEY_REVOKED, owned.key, whose)


def _record(
    session: AsyncSession,
    actor: Actor,
    action: Action,
    key: ApiKey,
    organisation_id: UUID | None,
    *,
    rotated_from: UUID | None = None,
) -> None:
    data = {"name": key.name, "kind": key.kind, "prefix": key.prefix, "scopes": key.scopes}
    if rotated_from is not None:
        data["rotated_from"] = str(rotated_from)
    record(session, actor, action, organisation_id=organisation_id, target_id=key.id, data=data)
