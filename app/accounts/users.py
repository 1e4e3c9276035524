"""The people of an organisation, as its admins manage them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts import repository
from app.accounts.errors import LastAdminError, UserNotFoundError
from app.accounts.principal import Principal
from app.accounts.roles import Permission, Role
from app.accounts.service import add_user, flush_account, forget_everywhere
from app.accounts.tables import User
from app.audit.actor import Actor
from app.audit.service import Action, record
from app.sessions.repository import end_sessions
from app.sessions.service import set_password
from app.sessions.tables import EndReason


@dataclass(frozen=True)
class Changes:
    """What is to be changed of a user; None leaves it as it is."""

    role: Role | None = None
    is_active: bool | None = None
    email: str | None = None
    password_hash: str | None = None


async def list_users(
    session: AsyncSession, principal: Principal, *, before: UUID | None, limit: int
) -> Sequence[User]:
    """The people of the principal's organisation, newest first.

    Raises:
        ForbiddenError: the role may not.
    """
    principal.require(Permission.MANAGE_USERS)
    return await repository.list_users(
        session, principal.organisation_id, before=before, limit=limit
    )


async def get_user(session: AsyncSession, principal: Principal, user_id: UUID) -> User:
    """A person of the principal's organisation.

    Raises:
        ForbiddenError: the role may not.
        UserNotFoundError: there is none, or it is another organisation's.
    """
    principal.require(Permission.MANAGE_USERS)
    user = await session.get(User, user_id)
    if user is None or user.organisation_id != principal.organisation_id:
        raise UserNotFoundError
    return user


async def create_member(
    session: AsyncSession,
    actor: Actor,
    *,
    organisation_id: UUID,
    username: str,
    password_hash: str,
    role: Role,
    email: str | None,
) -> User:
    """Create a user in an organisation, and say so in its audit trail.

    Raises:
        AccountExistsError: there is one of this name or e-mail address.
    """
    user = await add_user(
        session,
        organisation_id=organisation_id,
        username=username,
        password_hash=password_hash,
        role=role,
        email=email,
    )
    record(
        session,
        actor,
        Action.USER_CREATED,
        organisation_id=organisation_id,
        target_id=user.id,
        data={"username": user.username, "role": role},
    )
    return user


async def change_user(session: AsyncSession, actor: Actor, user: User, changes: Changes) -> User:
    """Change a user. Whoever is deactivated, or gets another password, is logged out at once.

    Raises:
        LastAdminError: nobody would be left who could change it back.
        AccountExistsError: the e-mail address is somebody else's.
    """
    # Two admins who demote each other at the same time must not both succeed.
    await repository.lock_organisation(session, user.organisation_id)
    locked = await repository.lock_user(session, user.id)
    if locked is None:
        raise UserNotFoundError
    await _require_an_admin_left(session, locked, changes)
    _change_role(session, actor, locked, changes.role)
    await _change_activity(session, actor, locked, is_active=changes.is_active)
    if changes.email is not None and changes.email != locked.email:
        locked.email = changes.email
        _record(session, actor, Action.USER_CHANGED, locked, email=changes.email)
    if changes.password_hash is not None:
        await set_password(session, locked, changes.password_hash, actor)
    await flush_account(session)
    forget_everywhere(session, locked.id)
    return locked


def set_quotas(
    session: AsyncSession, actor: Actor, user: User, quotas: Mapping[str, int | None]
) -> None:
    """Give a user quotas of their own, or take them back.

    Args:
        session: the transaction.
        actor: who does it.
        user: whose they are.
        quotas: by column, such as `max_queued_jobs`; None for what the setting says.
    """
    for column, limit in quotas.items():
        setattr(user, column, limit)
    _record(session, actor, Action.USER_CHANGED, user, **quotas)


async def _require_an_admin_left(session: AsyncSession, user: User, changes: Changes) -> None:
    is_admin = user.role == Role.ADMIN and user.is_active
    stays_admin = changes.role in {None, Role.ADMIN} and changes.is_active is not False
    if not is_admin or stays_admin:
        return
    if await repository.count_active_admins(session, user.organisation_id) <= 1:
        raise LastAdminError


def _change_role(session: AsyncSession, actor: Actor, user: User, role: Role | None) -> None:
    if role is None or role == user.role:
        return
    _record(session, actor, Action.ROLE_CHANGED, user, before=user.role, after=role)
    user.role = role


async def _change_activity(
    session: AsyncSession, actor: Actor, user: User, *, is_active: bool | None
) -> None:
    if is_active is None or is_active == user.is_active:
        return
    user.is_active = is_active
    if is_active:
        _record(session, actor, Action.USER_REACTIVATED, user)
        return
    await end_sessions(session, user.id, EndReason.DEACTIVATED)
    _record(session, actor, Action.USER_DEACTIVATED, user)


def _record(
    session: AsyncSession, actor: Actor, action: Action, user: User, **data: str | int | None
) -> None:
    record(
        session,
        actor,
        action,
        organisation_id=user.organisation_id,
        target_id=user.id,
        data={"username": user.username, **data},
    )
