"""Disabling webhooks: by their owner, or by themselves when their receiver takes nothing."""

from uuid import UUID

from sqlalchemy import bindparam, func, insert, literal, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts.tables import User
from app.audit.actor import Actor
from app.audit.service import Action
from app.notifications.events import TEST, WEBHOOK_DISABLED
from app.notifications.tables import Channel, Delivery, DeliveryChannel, DeliveryStatus, Webhook
from app.notifications.trail import record_of_webhook

_DELIVERER = Actor("deliverer")


async def disable(session: AsyncSession, webhook_id: UUID, reason: str) -> Webhook:
    """Disable a webhook, and give up what waits for it."""
    webhook = await session.get_one(
        Webhook, webhook_id, with_for_update=True, populate_existing=True
    )
    webhook.disabled_at = func.now()
    webhook.disabled_reason = reason
    await session.flush()
    await session.execute(
        update(Delivery)
        .where(
            Delivery.webhook_id == webhook_id,
            Delivery.status == DeliveryStatus.PENDING.value,
            Delivery.type != TEST,
        )
        .values(
            status=DeliveryStatus.FAILED.value,
            finished_at=func.now(),
            error="The webhook was disabled before this could be delivered.",
        )
    )
    return webhook


async def disable_by_itself(session: AsyncSession, webhook_id: UUID, reason: str) -> None:
    """Disable a webhook unasked; its owner is told, and it is in the audit trail."""
    webhook = await disable(session, webhook_id, reason)
    await _tell_owner(session, webhook, reason)
    record_of_webhook(session, _DELIVERER, Action.WEBHOOK_DISABLED, webhook, reason=reason)


async def _tell_owner(session: AsyncSession, webhook: Webhook, reason: str) -> None:
    """By e-mail, if that is set up and the account has an address."""
    notice = insert(Delivery).from_select(
        ["id", "event_id", "channel", "type", "organisation_id", "user_id", "destination", "data"],
        select(
            func.uuidv7(),
            func.uuidv7(),
            literal(Channel.EMAIL.value),
            literal(WEBHOOK_DISABLED),
            User.organisation_id,
            User.id,
            literal(Channel.EMAIL.value),
            bindparam(
                "data",
                {"webhook_id": str(webhook.id), "url": webhook.url, "reason": reason},
                Delivery.data.type,
            ),
        )
        .join(DeliveryChannel, DeliveryChannel.name == Channel.EMAIL.value)
        .where(User.id == webhook.user_id, User.email.is_not(None)),
        include_defaults=False,
    )
    await session.execute(notice)
