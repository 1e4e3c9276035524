"""What users may do with webhooks and deliveries: their own, and admins their organisation's."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from app.accounts.errors import ForbiddenError
from app.accounts.principal import Principal
from app.accounts.roles import Permission
from app.accounts.tables import User
from app.audit.actor import Actor
from app.audit.service import Action
from app.db.base import new_id
from app.db.session import signal_after_commit
from app.db.signals import Channel as SignalChannel
from app.db.signals import Signal
from app.notifications.disabling import disable
from app.notifications.errors import (
    DeliveryNotFoundError,
    EmailUnavailableError,
    TooManyWebhooksError,
    WebhookNotFoundError,
)
from app.notifications.events import TEST
from app.notifications.schemas import WebhookIn, WebhookPatch
from app.notifications.signing import SecretOf
from app.notifications.tables import (
    MAX_TRIES,
    Channel,
    Delivery,
    DeliveryChannel,
    DeliveryStatus,
    EmailPreference,
    NotificationPreferences,
    Webhook,
)
from app.notifications.trail import record_of_own, record_of_webhook
from app.notifications.urls import UrlPolicy, authority_of

MAX_WEBHOOKS = 20
"""Of one user."""


def _require(principal: Principal, owner: UUID) -> None:
    """Check that the principal may manage what belongs to a user of the same organisation.

    Raises:
        ForbiddenError: it is a colleague's, and the role does not reach it.
    """
    principal.require(Permission.MANAGE_OWN_WEBHOOKS)
    if owner != principal.user_id and not principal.may(Permission.MANAGE_ALL_WEBHOOKS):
        raise ForbiddenError("This is a colleague's, and your role does not reach it.")


async def get_webhook(
    session: AsyncSession, principal: Principal, webhook_id: UUID, *, lock: bool = False
) -> Webhook:
    """A webhook that the principal may manage.

    Raises:
        WebhookNotFoundError: there is none, or it is another organisation's.
        ForbiddenError: it is a colleague's, and the role does not reach it.
    """
    principal.require(Permission.MANAGE_OWN_WEBHOOKS)
    webhook = await session.get(
        Webhook, webhook_id, with_for_update=True if lock else None, populate_existing=True
    )
    if webhook is None or webhook.organisation_id != principal.organisation_id:
        raise WebhookNotFoundError
    _require(principal, webhook.user_id)
    return webhook


async def list_webhooks(
    session: AsyncSession, principal: Principal, *, before: UUID | None, limit: int
) -> Sequence[Webhook]:
    """The principal's webhooks, or the organisation's if the role manages them all."""
    principal.require(Permission.MANAGE_OWN_WEBHOOKS)
    conditions = _reach(principal, Webhook.organisation_id, Webhook.user_id)
    if before is not None:
        conditions.append(Webhook.id < before)
    found = select(Webhook).where(*conditions).order_by(Webhook.id.desc()).limit(limit)
    return (await session.execute(found)).scalars().all()


def _reach(
    principal: Principal,
    organisation: InstrumentedAttribute[UUID],
    user: InstrumentedAttribute[UUID],
) -> list[Any]:
    conditions: list[Any] = [organisation == principal.organisation_id]
    if not principal.may(Permission.MANAGE_ALL_WEBHOOKS):
        conditions.append(user == principal.user_id)
    return conditions


async def create_webhook(
    session: AsyncSession,
    principal: Principal,
    actor: Actor,
    wanted: WebhookIn,
    policy: UrlPolicy,
) -> Webhook:
    """Create a webhook that is told of the principal's own jobs from now on.

    Raises:
        ForbiddenError: the role may not have any.
        DestinationError: the URL is not called from here.
        TooManyWebhooksError: there are as many as one user may have.
    """
    principal.require(Permission.MANAGE_OWN_WEBHOOKS)
    url = str(policy.check(wanted.url))
    # Locked, or two requests at a time would both count one too few.
    await session.get_one(User, principal.user_id, with_for_update={"key_share": True})
    count = select(func.count()).where(Webhook.user_id == principal.user_id)
    if (await session.execute(count)).scalar_one() >= MAX_WEBHOOKS:
        raise TooManyWebhooksError
    webhook = Webhook(
        organisation_id=principal.organisation_id,
        user_id=principal.user_id,
        url=url,
        events=_unique(wanted.events),
        description=wanted.description,
    )
    session.add(webhook)
    await session.flush()
    await session.refresh(webhook)
    record_of_webhook(session, actor, Action.WEBHOOK_CREATED, webhook, events=webhook.events)
    return webhook


async def change_webhook(  # noqa: PLR0917
    session: AsyncSession,
    principal: Principal,
    actor: Actor,
    webhook_id: UUID,
    patch: WebhookPatch,
    policy: UrlPolicy,
) -> Webhook:
    """Change a webhook; a new URL also takes what still waits to be delivered.

    Raises:
        WebhookNotFoundError, ForbiddenError
        DestinationError: the URL is not called from here.
    """
    webhook = await get_webhook(session, principal, webhook_id, lock=True)
    before = _state(webhook)
    if patch.url is not None:
        url = policy.check(patch.url)
        webhook.url = str(url)
        await session.execute(
            update(Delivery)
            .where(
                Delivery.webhook_id == webhook.id,
                Delivery.status == DeliveryStatus.PENDING.value,
            )
            .values(url=str(url), destination=url.authority)
        )
    if patch.events is not None:
        webhook.events = _unique(patch.events)
    if patch.description is not None:
        webhook.description = patch.description
    await session.flush()
    if patch.enabled is False and webhook.disabled_at is None:
        await disable(session, webhook.id, "Its owner, or an admin, has disabled it.")
    elif patch.enabled:
        webhook.disabled_at = webhook.disabled_reason = webhook.failing_since = None
        webhook.failures = 0
        await session.flush()
    await session.refresh(webhook)
    after = _state(webhook)
    changed = [name for name in after if after[name] != before[name]]
    if changed:
        data: dict[str, object] = {"changed": changed, "enabled": after["enabled"]}
        if "url" in changed:
            data["host_before"] = authority_of(str(before["url"]))
        record_of_webhook(session, actor, Action.WEBHOOK_CHANGED, webhook, **data)
    return webhook


def _state(webhook: Webhook) -> dict[str, object]:
    return {
        "url": webhook.url,
        "events": list(webhook.events),
        "description": webhook.description,
        "enabled": webhook.disabled_at is None,
    }


def _unique(events: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(map(str, events)))


async def delete_webhook(
    session: AsyncSession, principal: Principal, actor: Actor, webhook_id: UUID
) -> None:
    """Delete a webhook; nothing more is sent to it, and its deliveries stay listed for a while.

    Raises:
        WebhookNotFoundError, ForbiddenError
    """
    webhook = await get_webhook(session, principal, webhook_id, lock=True)
    record_of_webhook(session, actor, Action.WEBHOOK_DELETED, webhook)
    await session.delete(webhook)


def webhook_secret(webhook: Webhook) -> SecretOf:
    """Which secret signs what a webhook is sent."""
    return SecretOf("webhook", webhook.id, webhook.secret_version, webhook.secret_rotated_at)


async def rotate_secret(
    session: AsyncSession, principal: Principal, actor: Actor, webhook_id: UUID
) -> tuple[SecretOf, datetime]:
    """Give a webhook a new secret; answers it and when it was made.

    Raises:
        WebhookNotFoundError, ForbiddenError
    """
    webhook = await get_webhook(session, principal, webhook_id, lock=True)
    webhook.secret_version += 1
    webhook.secret_rotated_at = now = datetime.now(UTC)
    await session.flush()
    record_of_webhook(session, actor, Action.WEBHOOK_SECRET_ROTATED, webhook)
    return webhook_secret(webhook), now


async def rotate_callback_secret(
    session: AsyncSession, principal: Principal, actor: Actor
) -> tuple[SecretOf, datetime]:
    """Give the callbacks of the principal's jobs a new secret; answers it and when it was made.

    Raises:
        ForbiddenError: the role has no callbacks.
    """
    principal.require(Permission.MANAGE_OWN_WEBHOOKS)
    now = datetime.now(UTC)
    # A first row is version 2 already: version 1 has signed without anybody being told it.
    new = pg_insert(NotificationPreferences).values(
        user_id=principal.user_id, secret_version=2, secret_rotated_at=now
    )
    rotated = await session.execute(
        new.on_conflict_do_update(
            index_elements=["user_id"],
            set_={
                "secret_version": NotificationPreferences.secret_version + 1,
                "secret_rotated_at": now,
            },
        ).returning(NotificationPreferences.secret_version)
    )
    version = rotated.scalar_one()
    record_of_own(session, principal, actor, Action.CALLBACK_SECRET_ROTATED)
    return SecretOf("callbacks", principal.user_id, version, now), now


async def send_test(session: AsyncSession, principal: Principal, webhook_id: UUID) -> Delivery:
    """Queue a test of a webhook, which is tried once, also while the webhook is disabled.

    Raises:
        WebhookNotFoundError, ForbiddenError
    """
    webhook = await get_webhook(session, principal, webhook_id)
    delivery = Delivery(
        event_id=new_id(),
        channel=Channel.WEBHOOK.value,
        type=TEST,
        organisation_id=webhook.organisation_id,
        user_id=webhook.user_id,
        webhook_id=webhook.id,
        url=webhook.url,
        destination=authority_of(webhook.url),
        data={"webhook_id": str(webhook.id)},
        tries_left=1,
    )
    session.add(delivery)
    await session.flush()
    await session.refresh(delivery)
    _wake(session)
    return delivery


async def list_deliveries(
    session: AsyncSession,
    principal: Principal,
    *conditions: Any,
    before: UUID | None,
    limit: int,
) -> Sequence[Delivery]:
    """Deliveries to the principal, or to the organisation if the role manages them all."""
    principal.require(Permission.MANAGE_OWN_WEBHOOKS)
    wanted = [*_reach(principal, Delivery.organisation_id, Delivery.user_id), *conditions]
    if before is not None:
        wanted.append(Delivery.id < before)
    found = select(Delivery).where(*wanted).order_by(Delivery.id.desc()).limit(limit)
    return (await session.execute(found)).scalars().all()


async def redeliver(session: AsyncSession, principal: Principal, delivery_id: UUID) -> Delivery:
    """Deliver once more, at once and by the whole schedule, whatever became of it before.

    To a webhook it goes to the URL that this has now.

    Raises:
        DeliveryNotFoundError: there is none, or it is another organisation's.
        WebhookNotFoundError: its webhook was deleted.
        ForbiddenError: it is a colleague's, and the role does not reach it.
    """
    principal.require(Permission.MANAGE_OWN_WEBHOOKS)
    found = await session.get(Delivery, delivery_id)
    if found is None or found.organisation_id != principal.organisation_id:
        raise DeliveryNotFoundError
    _require(principal, found.user_id)
    values: dict[str, Any] = {}
    if found.webhook_id is not None:
        webhook = await get_webhook(session, principal, found.webhook_id, lock=True)
        values = {"url": webhook.url, "destination": authority_of(webhook.url)}
    await session.execute(
        update(Delivery)
        .where(Delivery.id == delivery_id)
        .values(
            status=DeliveryStatus.PENDING.value,
            finished_at=None,
            due_at=func.now(),
            tries_left=1 if found.type == TEST else MAX_TRIES,
            **values,
        )
    )
    await session.refresh(found)
    _wake(session)
    return found


def _wake(session: AsyncSession) -> None:
    signal_after_commit(session, Signal(SignalChannel.DELIVERY_READY, ""))


async def get_preferences(
    session: AsyncSession, principal: Principal
) -> tuple[EmailPreference, bool]:
    """Of what the principal wants e-mail, and whether any can be sent."""
    row = (
        await session.execute(
            select(NotificationPreferences.email, User.email.is_not(None), DeliveryChannel.name)
            .select_from(User)
            .outerjoin(NotificationPreferences, NotificationPreferences.user_id == User.id)
            .outerjoin(DeliveryChannel, DeliveryChannel.name == Channel.EMAIL.value)
            .where(User.id == principal.user_id)
        )
    ).one()
    return EmailPreference(row[0] or EmailPreference.OFF), bool(row[1] and row[2])


async def set_preferences(
    session: AsyncSession, principal: Principal, actor: Actor, email: EmailPreference
) -> None:
    """Say of what the principal wants e-mail.

    Raises:
        EmailUnavailableError: none can be sent.
    """
    before, available = await get_preferences(session, principal)
    if email is not EmailPreference.OFF and not available:
        raise EmailUnavailableError
    row = pg_insert(NotificationPreferences).values(user_id=principal.user_id, email=email.value)
    await session.execute(
        row.on_conflict_do_update(index_elements=["user_id"], set_={"email": email.value})
    )
    if email is not before:
        record_of_own(
            session, principal, actor, Action.PREFERENCES_CHANGED, before=before, after=email
        )
