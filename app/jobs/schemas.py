"""What the job routes take and answer."""

from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlalchemy import Row

from app.artifacts.tables import Artifact
from app.jobs.estimates import Estimate
from app.jobs.lifecycle import JobStatus
from app.jobs.tables import Job, JobEvent
from app.notifications.urls import MAX_URL_LENGTH
from app.web.queries import MAX_PAGE, Moment
from contract.artifacts import MediaType
from contract.base import Sha256, Text, UtcDatetime
from contract.kinds import ArtifactKind


class UploadTicketIn(BaseModel):
    """The file that a client wants to upload."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"filename": "teapot.png", "content_type": "image/png", "size_bytes": 481_337}
            ]
        },
    )

    filename: Annotated[Text, StringConstraints(min_length=1, max_length=255)]
    content_type: MediaType
    size_bytes: int | None = Field(default=None, ge=1, le=1 << 50, description="checked if given")
    sha256: Sha256 | None = Field(default=None, description="checked if given")


class UploadTicketOut(BaseModel):
    """Where and how to PUT the bytes."""

    upload_url: str
    object_name: str = Field(description="goes into `input_params` of the job")
    expires_in: int = Field(description="seconds that the URL works")
    headers: dict[str, str] = Field(description="to send along with the PUT")


class JobIn(BaseModel):
    """What to make."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "model_id": "inflate-v1",
                    "input_params": {
                        "image_path": "uploads/0192…/0192…/teapot.png",
                        "texture_resolution": 1024,
                    },
                }
            ]
        },
    )

    model_id: Annotated[Text, StringConstraints(min_length=1, max_length=100)]
    input_params: dict[str, Any] = Field(default_factory=dict)
    prompt: Annotated[Text, StringConstraints(max_length=2000)] | None = None
    # Both are left out where they ask for nothing: idempotency keys remember requests from before
    # there were any.
    cache: bool = Field(
        default=False,
        exclude_if=lambda wanted: not wanted,
        description="answer at once with the files of an earlier job of your organisation that was"
        " created with `cache`, by the same version of the model, of the same parameters and input,"
        " if there is one",
    )
    callback_url: Annotated[Text, StringConstraints(max_length=MAX_URL_LENGTH)] | None = Field(
        default=None,
        exclude_if=lambda url: url is None,
        description="is sent every event of the job, as a webhook is",
    )


class JobErrorOut(BaseModel):
    """Why a job failed."""

    code: str = Field(examples=["CUTOUT_TOUCHES_BORDER"])
    message: str
    permanent: bool | None = Field(description="the same input would fail again")


class PreviewOut(BaseModel):
    """A picture to look at while or after the job runs."""

    name: str
    media_type: str
    url: str


_JOB: dict[str, Any] = {
    "id": "01a1f888-7332-7128-a621-0e7d53df5f83",
    "model_id": "inflate-v1",
    "model_version": "1.0.0",
    "status": "QUEUED",
    "input_params": {"image_path": "uploads/0192…/0192…/teapot.png", "seed": 7},
    "prompt": None,
    "reproduces": "01a1f870-0b1c-7d2e-8f3a-4b5c6d7e8f90",
    "cached_from": None,
    "progress_percent": 0,
    "stage": None,
    "message": None,
    "cancel_requested": False,
    "attempt": 0,
    "max_attempts": 3,
    "queue_position": 1,
    "eta_seconds": 12.5,
    "error": None,
    "previews": [],
    "warning": None,
    "requested_by": "01a1f86f-2f50-7c1d-9d1c-6a5b4c3d2e1f",
    "created_at": "2026-03-01T12:30:15.250000Z",
    "started_at": None,
    "completed_at": None,
    "expires_at": None,
}


class JobOut(BaseModel):
    """A job as its user sees it."""

    model_config = ConfigDict(json_schema_extra={"examples": [_JOB]})

    id: UUID
    model_id: str
    model_version: str
    status: JobStatus
    input_params: dict[str, Any]
    prompt: str | None
    reproduces: UUID | None = Field(description="the job that this one makes again")
    cached_from: UUID | None = Field(
        description="the job whose files these are; this one never ran itself"
    )
    progress_percent: float
    stage: str | None
    message: str | None
    cancel_requested: bool
    attempt: int = Field(description="which of `max_attempts` it is in; 0 before the first")
    max_attempts: int
    queue_position: int | None = Field(
        description="1 is next; counted up to 1000; while QUEUED, if it can be told just now"
    )
    eta_seconds: float | None = Field(
        description="estimated seconds to the end, if they can be told just now"
    )
    error: JobErrorOut | None
    previews: list[PreviewOut]
    warning: str | None = Field(
        default=None, description="what its user should know, such as that no worker is there yet"
    )
    requested_by: UUID
    created_at: UtcDatetime
    started_at: UtcDatetime | None
    completed_at: UtcDatetime | None
    expires_at: UtcDatetime | None = Field(description="when its files will be deleted")

    @classmethod
    def of(
        cls,
        job: Job,
        *,
        previews: list[PreviewOut] | None = None,
        estimate: Estimate | None = None,
        eta_seconds: float | None = None,
        warning: str | None = None,
    ) -> "JobOut":
        """The job with what is known beside its row."""
        started = job.status != JobStatus.QUEUED and job.started_at is not None
        if estimate:
            eta_seconds = estimate.eta_seconds
        return cls(
            id=job.id,
            model_id=job.model_id,
            model_version=job.model_version,
            status=JobStatus(job.status),
            input_params=job.input_params,
            prompt=job.prompt,
            reproduces=job.reproduces,
            cached_from=job.cached_from,
            progress_percent=round(job.progress_percent, 1),
            stage=job.stage,
            message=job.message,
            cancel_requested=job.cancel_requested_at is not None,
            attempt=_attempt_number(job, started=started),
            max_attempts=job.max_attempts,
            queue_position=estimate.queue_position if estimate else None,
            eta_seconds=None if eta_seconds is None else round(eta_seconds, 1),
            error=JobErrorOut(
                code=job.error_code, message=job.error_message or "", permanent=job.error_permanent
            )
            if job.error_code
            else None,
            previews=previews or [],
            warning=warning,
            requested_by=job.user_id,
            created_at=job.created_at,
            started_at=job.started_at,
            completed_at=job.completed_at,
            expires_at=job.expires_at,
        )


def _attempt_number(job: Job, *, started: bool) -> int:
    """Ended by a failure it is in the last one that failed, else in the one after those."""
    if not started or job.status == JobStatus.FAILED:
        return job.failures
    return job.failures + 1


class JobPage(BaseModel):
    """Some jobs, newest first."""

    items: list[JobOut]
    next_cursor: str | None = Field(description="pass as `cursor` for the next page")


class ValidationOut(BaseModel):
    """What would become of a job if it were created now."""

    valid: bool = True
    model_id: str
    input_params: dict[str, Any] = Field(description="with defaults filled in")
    served: bool = Field(description="a live worker can run it now")
    queue_position: int
    estimated_wait_seconds: float | None
    estimated_run_seconds: float | None


class DownloadOut(BaseModel):
    """Where to download from."""

    download_url: str
    expires_in: int


class ArtifactOut(BaseModel):
    """A file of a job."""

    id: UUID
    kind: ArtifactKind
    name: str
    media_type: str
    size_bytes: int
    sha256: str | None
    url: str = Field(description="presigned; works for `expires_in` seconds")
    expires_in: int
    created_at: UtcDatetime

    @classmethod
    def of(cls, artifact: Artifact, url: str, expires_in: int) -> "ArtifactOut":
        """The artifact with a URL to fetch it from."""
        return cls(
            id=artifact.id,
            kind=ArtifactKind(artifact.kind),
            name=artifact.name,
            media_type=artifact.media_type,
            size_bytes=artifact.size_bytes,
            sha256=artifact.sha256,
            url=url,
            expires_in=expires_in,
            created_at=artifact.created_at,
        )


class ArtifactList(BaseModel):
    """A job's files."""

    items: list[ArtifactOut]


class EventOut(BaseModel):
    """One fact about a job."""

    id: int
    type: str = Field(examples=["job.started"])
    attempt_id: UUID | None
    data: dict[str, Any]
    created_at: UtcDatetime

    @classmethod
    def of(cls, event: JobEvent | Row[Any]) -> "EventOut":
        """The event as it goes over the wire."""
        return cls(
            id=event.id,
            type=event.type,
            attempt_id=event.attempt_id,
            data=event.data,
            created_at=event.created_at,
        )


class EventList(BaseModel):
    """A job's events in order."""

    items: list[EventOut]


class Durations(BaseModel):
    """Seconds; None where nothing was measured."""

    p50: float | None
    p95: float | None


class MetricsOut(BaseModel):
    """Numbers of the jobs that the caller may read."""

    window_hours: int
    since: UtcDatetime
    by_status: dict[JobStatus, int]
    wait_seconds: Durations
    run_seconds: Durations
    completed: int
    completed_per_hour: float


class JobFilters(BaseModel):
    """Which jobs to list: every query parameter, since FastAPI takes either one model or none."""

    model_config = ConfigDict(extra="forbid")

    status: list[JobStatus] = []
    model_id: Text | None = None
    requested_by: UUID | None = None
    created_after: Moment | None = None
    created_before: Moment | None = None
    cursor: str | None = Field(default=None, max_length=64, description="of the page before")
    limit: int = Field(default=20, ge=1, le=MAX_PAGE)
