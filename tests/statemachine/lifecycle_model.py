"""What the life cycle promises, small enough to be read at once; the state machine's oracle."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from contract.attempts import JobSpec

MAX_ATTEMPTS = 3
MAX_RELEASES = 10
LIVE = ("DISPATCHED", "RUNNING")


@dataclass(eq=False)
class Attempt:
    """One execution of a job."""

    id: UUID
    job: "Job"
    status: str = "DISPATCHED"
    claim_id: UUID | None = None
    spec: JobSpec | None = None
    lease_over: bool = False
    artifacts: list[str] = field(default_factory=list)
    report: dict[str, Any] | None = None

    def refusal(self) -> int:
        """How a call is refused that this attempt's state does not allow."""
        gone = self.status == "CANCELLED" or self.job.status in {"CANCELLED", "EXPIRED"}
        return 410 if gone else 409


@dataclass(eq=False)
class Job:
    """A job as its user should see it."""

    id: UUID
    owner: int
    status: str = "QUEUED"
    due: bool = True
    failures: int = 0
    releases: int = 0
    cancel_requested: bool = False
    attempts: list[Attempt] = field(default_factory=list)
    events: list[str] = field(default_factory=lambda: ["job.created"])

    @property
    def live(self) -> Attempt | None:
        """The attempt that is on its way or running."""
        return next((attempt for attempt in self.attempts if attempt.status in LIVE), None)

    def dispatch(self, attempt_id: UUID) -> Attempt:
        """It has a slot, and an attempt that waits for a worker."""
        self.attempts.append(Attempt(attempt_id, self))
        self.events.append("job.dispatched")
        return self.attempts[-1]

    def move(self, status: str, event: str) -> None:
        """It goes on; one that is put back waits before it is due again."""
        self.status = status
        self.due = status != "QUEUED"
        self.events.append(event)

    def cancel(self) -> bool:
        """Whether it could be cancelled: at once while QUEUED, else its worker is asked to stop."""
        if self.status == "RUNNING":
            if not self.cancel_requested:
                self.events.append("job.cancel_requested")
        elif self.status == "QUEUED":
            if self.live:
                self.live.status = "CANCELLED"
            self.move("CANCELLED", "job.cancelled")
        else:
            return False
        self.cancel_requested = True
        return True

    def retry(self) -> bool:
        """Whether it could be queued again, with a new budget."""
        if self.status not in {"FAILED", "CANCELLED"}:
            return False
        self.failures = self.releases = 0
        self.cancel_requested = False
        self.move("QUEUED", "job.retried")
        self.due = True
        return True

    def fail(self, *, permanent: bool) -> None:
        """An attempt failed or was lost: tried again while it is worth it."""
        if self.cancel_requested:
            self.move("CANCELLED", "job.cancelled")
            return
        self.failures += 1
        if permanent or self.failures >= MAX_ATTEMPTS:
            self.move("FAILED", "job.failed")
        else:
            self.releases = 0
            self.move("QUEUED", "job.retry_scheduled")

    def release(self) -> None:
        """A worker handed its attempt back; too often is a failure."""
        if self.cancel_requested:
            self.move("CANCELLED", "job.cancelled")
        elif self.releases + 1 >= MAX_RELEASES:
            self.fail(permanent=False)
        else:
            self.releases += 1
            self.move("QUEUED", "attempt.released")


def finish(attempt: Attempt, report: dict[str, Any]) -> int:
    """What a worker's report does to an attempt and its job; answers the HTTP status."""
    job, outcome = attempt.job, report["outcome"]
    if attempt.status != "RUNNING":
        if attempt.report == report:
            return 200
        return 409 if attempt.report else attempt.refusal()
    if outcome == "succeeded" and not attempt.artifacts:
        return 422
    if outcome == "cancelled" and not job.cancel_requested:
        return 409
    attempt.report = report
    attempt.status = "RELEASED" if outcome == "released" else outcome.upper()
    match outcome:
        case "succeeded":
            job.move("SUCCEEDED", "job.succeeded")
        case "failed":
            job.fail(permanent=report["permanent"])
        case "cancelled":
            job.move("CANCELLED", "job.cancelled")
        case "released":
            job.release()
    return 200


def claim(attempt: Attempt, claim_id: UUID) -> int:
    """What a claim does; answers the HTTP status."""
    if attempt.status == "RUNNING" and attempt.claim_id == claim_id:
        attempt.lease_over = False
        return 200
    if attempt.status != "DISPATCHED":
        return attempt.refusal()
    attempt.status, attempt.claim_id = "RUNNING", claim_id
    attempt.job.move("RUNNING", "job.started")
    return 200


def wrong_token() -> str:
    """A token that no claim answered with."""
    return f"{uuid4().hex}{uuid4().hex}"
