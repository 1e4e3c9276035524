"""Quotas: what may be used, what is, and when that begins anew."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from app.usage.errors import QuotaExceededError


class Resource(StrEnum):
    """What there are quotas of."""

    ACTIVE_JOBS = "active_jobs"
    QUEUED_JOBS = "queued_jobs"
    STORAGE_BYTES = "storage_bytes"
    GPU_SECONDS = "gpu_seconds"


class Owner(StrEnum):
    """Whose a quota is."""

    USER = "user"
    ORGANISATION = "organisation"


_WHAT_TO_DO = {
    Resource.ACTIVE_JOBS: "Wait until one has ended.",
    Resource.QUEUED_JOBS: "Wait until some have started, or cancel some.",
    Resource.STORAGE_BYTES: "Files are deleted when the retention of their jobs is over, and a day "
    "after an upload that no job uses.",
}


@dataclass(frozen=True, slots=True)
class Quota:
    """One quota as it stands; without a limit there is always room."""

    owner: Owner
    resource: Resource
    used: float
    limit: int | None
    resets_at: datetime | None = None

    def has_room(self, more: int = 1) -> bool:
        """Whether so much more would not be too much."""
        return self.limit is None or self.used + more <= self.limit

    def exceeded(self, more: int = 1) -> QuotaExceededError:
        """The error that names the quota, its use, its limit and what to do."""
        whose = "You have" if self.owner is Owner.USER else "Your organisation has"
        what = self.resource.replace("_", " ")
        counts = self.resource is Resource.STORAGE_BYTES and more > 0
        asked = f", and {more} more are asked for" if counts else ""
        headers: dict[str, str] = {}
        if self.resets_at is None:
            advice = _WHAT_TO_DO[self.resource]
        else:
            advice = f"They are counted anew from {self.resets_at:%Y-%m-%dT%H:%M:%SZ}."
            wait = (self.resets_at - datetime.now(UTC)).total_seconds()
            headers["Retry-After"] = str(max(1, int(wait) + 1))
        return QuotaExceededError(
            f"{whose} used {self.used:.0f} of {self.limit} {what}{asked}. {advice}",
            headers=headers,
        )
