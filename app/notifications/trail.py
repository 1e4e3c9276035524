"""What of webhooks and preferences is in the audit trail."""

from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts.principal import Principal
from app.audit.actor import Actor
from app.audit.service import Action, record
from app.notifications.tables import Webhook
from app.notifications.urls import authority_of


def record_of_webhook(
    session: AsyncSession, actor: Actor, action: Action, webhook: Webhook, **data: object
) -> None:
    """Write what was done to a webhook; of its URL the host only, for the rest may be secret."""
    record(
        session,
        actor,
        action,
        organisation_id=webhook.organisation_id,
        target_id=webhook.id,
        data={"host": authority_of(webhook.url), "owner": str(webhook.user_id), **data},
    )


def record_of_own(
    session: AsyncSession, principal: Principal, actor: Actor, action: Action, **data: str
) -> None:
    """Write what a user has done to what they alone are told."""
    record(
        session,
        actor,
        action,
        organisation_id=principal.organisation_id,
        target_id=principal.user_id,
        data=data,
    )
