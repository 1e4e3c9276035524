"""What the routes of webhooks and notifications take and answer."""

from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from app.notifications.events import Event
from app.notifications.tables import (
    Channel,
    Delivery,
    DeliveryStatus,
    EmailPreference,
    Webhook,
)
from app.notifications.urls import MAX_URL_LENGTH
from contract.base import Text, UtcDatetime

Url = Annotated[Text, StringConstraints(min_length=1, max_length=MAX_URL_LENGTH)]
_Description = Annotated[Text, StringConstraints(max_length=200)]
_Events = Annotated[list[Event], Field(min_length=1, max_length=len(Event))]
_URL = "https://example.org/hooks/3d"


class WebhookIn(BaseModel):
    """A URL to tell of what happens to your jobs."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"url": _URL, "events": ["job.completed", "job.failed"]}]},
    )

    url: Url = Field(description="https; a public address, unless this site allows others")
    events: _Events = Field(default=list(Event), description="which events to tell of")
    description: _Description = ""


class WebhookPatch(BaseModel):
    """What to change of a webhook; what is left out stays."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"enabled": True}]})

    url: Url | None = Field(default=None, description="also of what still waits to be delivered")
    events: _Events | None = None
    description: _Description | None = None
    enabled: bool | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if all(value is None for value in self.model_dump().values()):
            raise ValueError("names nothing to change: url, events, description or enabled")
        return self


class WebhookOut(BaseModel):
    """A webhook, without its secret."""

    id: UUID
    url: str
    events: list[Event]
    description: str
    enabled: bool
    disabled_reason: str | None
    failing_since: UtcDatetime | None = Field(
        description="since when every try has failed; it is disabled after some days of that"
    )
    owner: UUID = Field(description="whose jobs it is told of")
    created_at: UtcDatetime

    @classmethod
    def of(cls, webhook: Webhook) -> "WebhookOut":
        """The webhook as it goes over the wire."""
        return cls(**_fields(webhook))


class NewWebhookOut(WebhookOut):
    """A new webhook, with its secret, which is shown only now."""

    secret: str = Field(examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])

    @classmethod
    def with_secret(cls, webhook: Webhook, secret: str) -> "NewWebhookOut":
        """The webhook and its secret as they go over the wire."""
        return cls(**_fields(webhook), secret=secret)


def _fields(webhook: Webhook) -> dict[str, Any]:
    return {
        "id": webhook.id,
        "url": webhook.url,
        "events": webhook.events,
        "description": webhook.description,
        "enabled": webhook.disabled_at is None,
        "disabled_reason": webhook.disabled_reason,
        "failing_since": webhook.failing_since,
        "owner": webhook.user_id,
        "created_at": webhook.created_at,
    }


class SecretOut(BaseModel):
    """A new secret, which is shown only now."""

    secret: str = Field(examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])
    previous_valid_until: UtcDatetime = Field(
        description="until then every delivery is signed with both secrets"
    )


class WebhookPage(BaseModel):
    """Some webhooks, newest first."""

    items: list[WebhookOut]
    next_cursor: str | None = Field(description="pass as `cursor` for the next page")


class PageOf(BaseModel):
    """Which part of a list."""

    model_config = ConfigDict(extra="forbid")

    cursor: str | None = Field(default=None, max_length=64, description="of the page before")
    limit: int = Field(default=20, ge=1, le=100)


class DeliveryFilters(PageOf):
    """Which deliveries to list."""

    status: DeliveryStatus | None = None


class OwnDeliveryFilters(DeliveryFilters):
    """Which of your own deliveries to list."""

    job_id: UUID | None = None
    channel: Channel | None = None


class DeliveryOut(BaseModel):
    """One message for one destination, and what has become of it."""

    id: UUID
    event_id: UUID = Field(description="the `webhook-id` that the receiver sees")
    channel: Channel
    type: str = Field(examples=["job.completed"])
    occurred_at: UtcDatetime
    job_id: UUID | None
    webhook_id: UUID | None
    status: DeliveryStatus
    attempts: int = Field(description="how often it has been tried")
    tried_at: UtcDatetime | None = Field(description="the last time")
    next_try_at: UtcDatetime | None = Field(description="while PENDING")
    finished_at: UtcDatetime | None
    answer_status: int | None = Field(description="of the last answer")
    answer_start: str | None = Field(description="the first characters of the last answer's body")
    error: str | None = Field(description="why the last try failed")

    @classmethod
    def of(cls, delivery: Delivery) -> "DeliveryOut":
        """The delivery as it goes over the wire."""
        pending = delivery.status == DeliveryStatus.PENDING
        return cls(
            id=delivery.id,
            event_id=delivery.event_id,
            channel=Channel(delivery.channel),
            type=delivery.type,
            occurred_at=delivery.occurred_at,
            job_id=delivery.job_id,
            webhook_id=delivery.webhook_id,
            status=DeliveryStatus(delivery.status),
            attempts=delivery.attempts,
            tried_at=delivery.tried_at,
            next_try_at=delivery.due_at if pending else None,
            finished_at=delivery.finished_at,
            answer_status=delivery.answer_status,
            answer_start=delivery.answer_start,
            error=delivery.error,
        )


class DeliveryPage(BaseModel):
    """Some deliveries, newest first."""

    items: list[DeliveryOut]
    next_cursor: str | None = Field(description="pass as `cursor` for the next page")


class PreferencesIn(BaseModel):
    """What to be told of by e-mail."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"email": "all"}]})

    email: EmailPreference = Field(description="when a job fails, or also when one succeeds")


class PreferencesOut(BaseModel):
    """What you are told of by e-mail, and whether you can be."""

    email: EmailPreference
    email_available: bool = Field(
        description="this site sends e-mail, and your account has an address"
    )
