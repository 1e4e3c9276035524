"""Writing the audit trail, and reading it."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts.principal import Principal
from app.accounts.roles import Permission
from app.audit.actor import Actor
from app.audit.schemas import AuditFilters
from app.audit.tables import AuditEvent


class Action(StrEnum):
    """What can be done that is worth a line in the audit trail."""

    LOGIN_SUCCEEDED = "login.succeeded"
    LOGIN_FAILED = "login.failed"
    LOGIN_LOCKED = "login.locked"
    SESSION_ENDED = "session.ended"
    TOKEN_REUSED = "session.token_reused"  # noqa: S105
    PASSWORD_CHANGED = "password.changed"  # noqa: S105
    ORGANISATION_CREATED = "organisation.created"
    ORGANISATION_CHANGED = "organisation.changed"
    USER_REGISTERED = "user.registered"
    USER_CREATED = "user.created"
    USER_CHANGED = "user.changed"
    ROLE_CHANGED = "user.role_changed"
    USER_DEACTIVATED = "user.deactivated"
    USER_REACTIVATED = "user.reactivated"
    KEY_CREATED = "key.created"
    KEY_ROTATED = "key.rotated"
    KEY_REVOKED = "key.revoked"
    FILE_LINKED = "file.linked"
    WEBHOOK_CREATED = "webhook.created"
    WEBHOOK_CHANGED = "webhook.changed"
    WEBHOOK_DELETED = "webhook.deleted"
    WEBHOOK_SECRET_ROTATED = "webhook.secret_rotated"  # noqa: S105
    WEBHOOK_DISABLED = "webhook.disabled"
    CALLBACK_SECRET_ROTATED = "callbacks.secret_rotated"  # noqa: S105
    PREFERENCES_CHANGED = "notifications.changed"
    JOB_REDRIVEN = "job.redriven"
    TRAIL_PURGED = "audit.purged"


def record(
    session: AsyncSession,
    actor: Actor,
    action: Action,
    *,
    organisation_id: UUID | None,
    target_id: UUID | None = None,
    data: Mapping[str, Any] | None = None,
) -> None:
    """Write that somebody did something, in the transaction that does it.

    Args:
        session: that transaction.
        actor: who.
        action: what.
        organisation_id: whose audit trail it belongs to; None for nobody's.
        target_id: the user, key, session, job or webhook that it was done to.
        data: what else is worth knowing; never a secret.
    """
    session.add(
        AuditEvent(
            organisation_id=organisation_id,
            action=action,
            actor_id=actor.user_id,
            actor_name=actor.name,
            credential_id=actor.credential_id,
            target_id=target_id,
            data=dict(data or {}),
            address=actor.address,
            request_id=actor.request_id,
        )
    )


async def list_events(
    session: AsyncSession,
    principal: Principal,
    filters: AuditFilters,
    *,
    before: UUID | None,
    limit: int,
) -> Sequence[AuditEvent]:
    """The audit events of the principal's organisation, newest first; ids sort by time.

    Raises:
        ForbiddenError: the role may not read them.
    """
    principal.require(Permission.READ_AUDIT)
    conditions = [AuditEvent.organisation_id == principal.organisation_id]
    if filters.action is not None:
        start, star, _ = filters.action.partition("*")
        conditions.append(
            AuditEvent.action.startswith(start, autoescape=True)
            if star
            else AuditEvent.action == start
        )
    for column, value in (
        (AuditEvent.actor_id, filters.actor_id),
        (AuditEvent.target_id, filters.target_id),
        (AuditEvent.address, filters.address),
    ):
        if value is not None:
            conditions.append(column == value)
    if filters.created_after is not None:
        conditions.append(AuditEvent.created_at > filters.created_after)
    if filters.created_before is not None:
        conditions.append(AuditEvent.created_at < filters.created_before)
    if before is not None:
        conditions.append(AuditEvent.id < before)
    return (
        await session.scalars(
            select(AuditEvent).where(*conditions).order_by(AuditEvent.id.desc()).limit(limit)
        )
    ).all()
