"""What `GET /usage` answers."""

from datetime import datetime

from pydantic import BaseModel, Field

from app.usage.quotas import Owner, Quota, Resource
from app.usage.service import Quotas


class QuotaOut(BaseModel):
    """One quota as it stands."""

    used: float = Field(description="now, or of this month", examples=[3])
    limit: int | None = Field(description="null if there is none", examples=[1000])
    resets_at: datetime | None = Field(
        default=None, description="when `used` is counted anew, of what is counted by the month"
    )

    @classmethod
    def of(cls, quota: Quota) -> "QuotaOut":
        """A quota as clients see it."""
        return cls(used=quota.used, limit=quota.limit, resets_at=quota.resets_at)


class QuotasOut(BaseModel):
    """All quotas of a user, or of an organisation."""

    active_jobs: QuotaOut = Field(description="dispatched or running; more wait in the queue")
    queued_jobs: QuotaOut
    storage_bytes: QuotaOut = Field(description="of uploads and results, promised or stored")
    gpu_seconds: QuotaOut = Field(description="of attempts that ended this month, UTC")

    @classmethod
    def of(cls, quotas: Quotas, owner: Owner) -> "QuotasOut":
        """The quotas of one owner."""
        return cls(**{resource: QuotaOut.of(quotas[owner, resource]) for resource in Resource})


class UsageOut(BaseModel):
    """What is used, and may be."""

    user: QuotasOut
    organisation: QuotasOut | None = Field(description="null unless your role is admin")
