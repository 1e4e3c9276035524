"""What a webhook is sent: the job as it was when the event happened."""

from types import SimpleNamespace
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from app.jobs.schemas import JobOut
from app.jobs.tables import Job
from app.notifications.events import TEST, Event
from app.notifications.outbox import DueDelivery
from contract.base import UtcDatetime


class MessageMetadata(BaseModel):
    """What is known beside the job itself."""

    retry_count: int = Field(description="attempts of the job that have failed so far")
    max_retries: int = Field(description="how often the job may be tried again")
    idempotency_key: str | None = Field(description="with which the job was created")


class JobMessage(BaseModel):
    """An event of a job."""

    type: Event
    event_id: UUID = Field(
        description="the `webhook-id`; the same for every try and every destination"
    )
    timestamp: UtcDatetime = Field(description="when it happened, which is not when it is sent")
    payload: JobOut = Field(
        description="the job as it was then, as GET answers it, but with no `previews`, whose URLs "
        "open files, and no estimates"
    )
    metadata: MessageMetadata


class TestMessage(BaseModel):
    """What `POST /webhooks/{webhook_id}/test` sends."""

    type: Literal["webhook.test"] = TEST
    event_id: UUID
    timestamp: UtcDatetime
    payload: dict[str, Any] = Field(description="the webhook's id")


def job_of(data: dict[str, Any]) -> JobOut:
    """A job as its user sees it, of the row that the outbox kept."""
    row: Any = SimpleNamespace(**data)
    job: Job = row
    return JobOut.of(job)


def body_of(delivery: DueDelivery) -> bytes:
    """What is sent, in JSON: every try of a delivery has the same body."""
    common = {"event_id": delivery.event_id, "timestamp": delivery.occurred_at}
    message: BaseModel
    if delivery.type == TEST:
        message = TestMessage(**common, payload=delivery.data)
    else:
        row = delivery.data
        message = JobMessage(
            **common,
            type=Event(delivery.type),
            payload=job_of(row),
            metadata=MessageMetadata(
                retry_count=row["failures"],
                max_retries=row["max_attempts"] - 1,
                idempotency_key=row["idempotency_key"],
            ),
        )
    return message.model_dump_json().encode()
