"""Routes of webhooks, of what was delivered, and of what a user wants to be told."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, status

from app.accounts.dependencies import CurrentPrincipal
from app.accounts.errors import ForbiddenError, NotAuthenticatedError
from app.audit.dependencies import CurrentActor
from app.db.session import SessionDependency
from app.errors import InvalidRequestError
from app.notifications import service
from app.notifications.errors import (
    DeliveryNotFoundError,
    DestinationError,
    EmailUnavailableError,
    TooManyWebhooksError,
    WebhookNotFoundError,
)
from app.notifications.schemas import (
    DeliveryFilters,
    DeliveryOut,
    DeliveryPage,
    NewWebhookOut,
    OwnDeliveryFilters,
    PageOf,
    PreferencesIn,
    PreferencesOut,
    SecretOut,
    WebhookIn,
    WebhookOut,
    WebhookPage,
    WebhookPatch,
)
from app.notifications.signing import OVERLAP
from app.notifications.tables import Delivery
from app.notifications.urls import UrlPolicy
from app.web.dependencies import SettingsDependency
from app.web.problems import problem_responses
from app.web.queries import decode_cursor, encode_cursor

_ANY_ERRORS = (NotAuthenticatedError, ForbiddenError, InvalidRequestError)

router = APIRouter(
    prefix="/webhooks", tags=["notifications"], responses=problem_responses(*_ANY_ERRORS)
)
preferences_router = APIRouter(
    prefix="/notifications", tags=["notifications"], responses=problem_responses(*_ANY_ERRORS)
)

_OF_WEBHOOK = (NotAuthenticatedError, ForbiddenError, WebhookNotFoundError)


async def _get_policy(settings: SettingsDependency) -> UrlPolicy:
    return UrlPolicy(settings)


_Policy = Annotated[UrlPolicy, Depends(_get_policy)]


@router.get("", include_in_schema=False)
@router.get("/", summary="List webhooks, newest first")
async def list_webhooks(
    principal: CurrentPrincipal, session: SessionDependency, page: Annotated[PageOf, Query()]
) -> WebhookPage:
    """Your webhooks, or your organisation's if your role manages them all."""
    webhooks = await service.list_webhooks(
        session, principal, before=decode_cursor(page.cursor), limit=page.limit + 1
    )
    shown = webhooks[: page.limit]
    return WebhookPage(
        items=[WebhookOut.of(webhook) for webhook in shown],
        next_cursor=encode_cursor(shown[-1].id) if len(webhooks) > page.limit else None,
    )


@router.post("", include_in_schema=False, status_code=status.HTTP_201_CREATED)
@router.post(
    "/",
    status_code=status.HTTP_201_CREATED,
    summary="Create a webhook",
    responses=problem_responses(*_ANY_ERRORS, DestinationError, TooManyWebhooksError),
)
async def create_webhook(  # noqa: PLR0917
    body: WebhookIn,
    principal: CurrentPrincipal,
    actor: CurrentActor,
    session: SessionDependency,
    settings: SettingsDependency,
    policy: _Policy,
) -> NewWebhookOut:
    """From now on events of your jobs are sent to the URL, signed with the secret in the answer.

    The secret is not shown again. What the host's name leads to is checked with each delivery.
    """
    webhook = await service.create_webhook(session, principal, actor, body, policy)
    secret = service.webhook_secret(webhook).reveal(settings.secret_key.get_secret_value())
    return NewWebhookOut.with_secret(webhook, secret)


@router.get("/deliveries/", include_in_schema=False)
@router.get("/deliveries", summary="List deliveries, newest first")
async def list_deliveries(
    principal: CurrentPrincipal,
    session: SessionDependency,
    filters: Annotated[OwnDeliveryFilters, Query()],
) -> DeliveryPage:
    """What was sent to you by webhook, callback or e-mail, or to your organisation if you may."""
    conditions = []
    if filters.job_id is not None:
        conditions.append(Delivery.job_id == filters.job_id)
    if filters.channel is not None:
        conditions.append(Delivery.channel == filters.channel.value)
    return await _page(session, principal, filters, *conditions)


@router.post(
    "/deliveries/{delivery_id}/redeliver",
    status_code=status.HTTP_202_ACCEPTED,
    summary="Deliver once more",
    responses=problem_responses(
        NotAuthenticatedError, ForbiddenError, DeliveryNotFoundError, WebhookNotFoundError
    ),
)
async def redeliver(
    delivery_id: UUID, principal: CurrentPrincipal, session: SessionDependency
) -> DeliveryOut:
    """Send it again at once, whatever became of it before; if need be by the whole schedule.

    It has the same `webhook-id`, by which a receiver can tell that it is no new event.
    """
    return DeliveryOut.of(await service.redeliver(session, principal, delivery_id))


@router.get("/{webhook_id}", summary="Get a webhook", responses=problem_responses(*_OF_WEBHOOK))
async def get_webhook(
    webhook_id: UUID, principal: CurrentPrincipal, session: SessionDependency
) -> WebhookOut:
    """One webhook, without its secret."""
    return WebhookOut.of(await service.get_webhook(session, principal, webhook_id))


@router.patch(
    "/{webhook_id}",
    summary="Change, disable or enable a webhook",
    responses=problem_responses(*_OF_WEBHOOK, InvalidRequestError, DestinationError),
)
async def change_webhook(  # noqa: PLR0917
    webhook_id: UUID,
    body: WebhookPatch,
    principal: CurrentPrincipal,
    actor: CurrentActor,
    session: SessionDependency,
    policy: _Policy,
) -> WebhookOut:
    """What is left out stays as it is. Disabling gives up what still waits to be delivered."""
    return WebhookOut.of(
        await service.change_webhook(session, principal, actor, webhook_id, body, policy)
    )


@router.delete(
    "/{webhook_id}",
    status_code=status.HTTP_204_NO_CONTENT,
    summary="Delete a webhook",
    responses=problem_responses(*_OF_WEBHOOK),
)
async def delete_webhook(
    webhook_id: UUID, principal: CurrentPrincipal, actor: CurrentActor, session: SessionDependency
) -> None:
    """Nothing more is sent to it."""
    await service.delete_webhook(session, principal, actor, webhook_id)


@router.post(
    "/{webhook_id}/test",
    status_code=status.HTTP_202_ACCEPTED,
    summary="Try a webhook",
    responses=problem_responses(*_OF_WEBHOOK),
)
async def test_webhook(
    webhook_id: UUID, principal: CurrentPrincipal, session: SessionDependency
) -> DeliveryOut:
    """Send it a `webhook.test`, once. Its deliveries tell what became of it."""
    return DeliveryOut.of(await service.send_test(session, principal, webhook_id))


@router.post(
    "/{webhook_id}/rotate-secret",
    summary="Give a webhook a new secret",
    responses=problem_responses(*_OF_WEBHOOK),
)
async def rotate_secret(
    webhook_id: UUID,
    principal: CurrentPrincipal,
    actor: CurrentActor,
    session: SessionDependency,
    settings: SettingsDependency,
) -> SecretOut:
    """For a day every delivery is signed with the new secret and with the one before it."""
    secret, now = await service.rotate_secret(session, principal, actor, webhook_id)
    return SecretOut(
        secret=secret.reveal(settings.secret_key.get_secret_value()),
        previous_valid_until=now + OVERLAP,
    )


@router.get("/{webhook_id}/deliveries/", include_in_schema=False)
@router.get(
    "/{webhook_id}/deliveries",
    summary="List a webhook's deliveries, newest first",
    responses=problem_responses(*_OF_WEBHOOK, InvalidRequestError),
)
async def list_webhook_deliveries(
    webhook_id: UUID,
    principal: CurrentPrincipal,
    session: SessionDependency,
    filters: Annotated[DeliveryFilters, Query()],
) -> DeliveryPage:
    """What was sent to it, how often it was tried, and what it answered."""
    await service.get_webhook(session, principal, webhook_id)
    return await _page(session, principal, filters, Delivery.webhook_id == webhook_id)


async def _page(
    session: SessionDependency,
    principal: CurrentPrincipal,
    filters: DeliveryFilters,
    *conditions: object,
) -> DeliveryPage:
    if filters.status is not None:
        conditions = (*conditions, Delivery.status == filters.status.value)
    deliveries = await service.list_deliveries(
        session,
        principal,
        *conditions,
        before=decode_cursor(filters.cursor),
        limit=filters.limit + 1,
    )
    shown = deliveries[: filters.limit]
    return DeliveryPage(
        items=[DeliveryOut.of(delivery) for delivery in shown],
        next_cursor=encode_cursor(shown[-1].id) if len(deliveries) > filters.limit else None,
    )


@preferences_router.get("/", include_in_schema=False)
@preferences_router.get("", summary="Of what you are told by e-mail")
async def get_preferences(
    principal: CurrentPrincipal, session: SessionDependency
) -> PreferencesOut:
    """Nothing, until you ask for it."""
    email, available = await service.get_preferences(session, principal)
    return PreferencesOut(email=email, email_available=available)


@preferences_router.patch("/", include_in_schema=False)
@preferences_router.patch(
    "",
    summary="Say of what to tell you by e-mail",
    responses=problem_responses(*_ANY_ERRORS, EmailUnavailableError),
)
async def set_preferences(
    body: PreferencesIn,
    principal: CurrentPrincipal,
    actor: CurrentActor,
    session: SessionDependency,
) -> PreferencesOut:
    """`off`, `failures` (when a job fails) or `all` (also when one succeeds)."""
    await service.set_preferences(session, principal, actor, body.email)
    email, available = await service.get_preferences(session, principal)
    return PreferencesOut(email=email, email_available=available)


@preferences_router.post("/callback-secret", summary="Get a new secret for callbacks")
async def rotate_callback_secret(
    principal: CurrentPrincipal,
    actor: CurrentActor,
    session: SessionDependency,
    settings: SettingsDependency,
) -> SecretOut:
    """The secret that signs what the `callback_url` of your jobs is sent; it is shown only now.

    For a day the secret before it signs, too.
    """
    secret, now = await service.rotate_callback_secret(session, principal, actor)
    return SecretOut(
        secret=secret.reveal(settings.secret_key.get_secret_value()),
        previous_valid_until=now + OVERLAP,
    )
