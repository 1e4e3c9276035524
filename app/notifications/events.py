"""What subscribers can be told of, by the names they know it by."""

from enum import StrEnum
from typing import Final


class Event(StrEnum):
    """What may happen to a job that a webhook can be told of."""

    CREATED = "job.created"
    STARTED = "job.started"
    COMPLETED = "job.completed"
    FAILED = "job.failed"
    CANCELLED = "job.cancelled"


TEST: Final = "webhook.test"
"""Sent because the owner of a webhook wants to see whether it works."""

WEBHOOK_DISABLED: Final = "webhook.disabled"
"""A webhook has been disabled: its owner is told by e-mail."""
