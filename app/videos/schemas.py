"""What the video routes answer, in the words of the systems they replace."""

from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from app.jobs.lifecycle import JobStatus
from app.jobs.schemas import JobOut
from app.jobs.tables import Job
from app.videos.facts import Facts
from contract.base import UtcDatetime

_UPLOADED: dict[str, Any] = {
    "job_id": "01a1f888-7332-7128-a621-0e7d53df5f83",
    "status": "QUEUED",
    "filename": "talk.mp4",
    "size_bytes": 48_133_700,
    "warning": None,
}
_STATUS: dict[str, Any] = {
    "job_id": "01a1f888-7332-7128-a621-0e7d53df5f83",
    "status": "SUCCEEDED",
    "model_id": "video-frames-v1",
    "progress_percent": 100,
    "stage": "finished",
    "message": None,
    "frame_count": 61,
    "zip_size_bytes": 4_201_337,
    "processing_time_seconds": 2.84,
    "error_code": None,
    "error_message": None,
    "retry_count": 0,
    "download_available": True,
    "created_at": "2026-03-01T12:30:15.250000Z",
    "started_at": "2026-03-01T12:30:15.900000Z",
    "completed_at": "2026-03-01T12:30:19.100000Z",
}


class UploadedVideo(BaseModel):
    """A video that was stored, and the job that was made of it."""

    model_config = ConfigDict(json_schema_extra={"examples": [_UPLOADED]})

    job_id: UUID
    status: JobStatus
    filename: str = Field(description="as it was sent")
    size_bytes: int
    warning: str | None = Field(
        default=None, description="what its user should know, such as that no worker is there yet"
    )


class JobStatusOut(BaseModel):
    """How far a job is and what has come of it."""

    model_config = ConfigDict(json_schema_extra={"examples": [_STATUS]})

    job_id: UUID
    status: JobStatus
    model_id: str
    progress_percent: float
    stage: str | None
    message: str | None
    frame_count: int | None = Field(description="frames in the result; once there is one")
    zip_size_bytes: int | None
    processing_time_seconds: float | None = Field(description="of the attempt that succeeded")
    error_code: str | None
    error_message: str | None
    retry_count: int = Field(description="how many attempts came after the first")
    download_available: bool = Field(description="`GET /jobs/{job_id}/download` answers")
    created_at: UtcDatetime
    started_at: UtcDatetime | None
    completed_at: UtcDatetime | None

    @classmethod
    def of(cls, job: Job, facts: Facts) -> "JobStatusOut":
        """A job with what is known of its files and its attempt."""
        return cls(**_status(job, facts))


class VideoOut(JobStatusOut):
    """A video: its file, and the job that was made of it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": _STATUS["job_id"],
                    "filename": "talk.mp4",
                    "size_bytes": 48_133_700,
                    **_STATUS,
                }
            ]
        }
    )

    id: UUID = Field(description="the job's")
    filename: str | None
    size_bytes: int | None

    @classmethod
    def of(cls, job: Job, facts: Facts) -> "VideoOut":
        """A job on a video with what is known of its files and its attempt."""
        return cls(
            id=job.id,
            filename=facts.filename,
            size_bytes=facts.size_bytes,
            **_status(job, facts),
        )


class VideoPage(BaseModel):
    """Some videos, newest first."""

    items: list[VideoOut]
    next_cursor: str | None = Field(description="pass as `cursor` for the next page")


def _status(job: Job, facts: Facts) -> dict[str, Any]:
    shown = JobOut.of(job)
    succeeded = job.status == JobStatus.SUCCEEDED
    return {
        "job_id": shown.id,
        "status": shown.status,
        "model_id": shown.model_id,
        "progress_percent": shown.progress_percent,
        "stage": shown.stage,
        "message": shown.message,
        "frame_count": facts.whole("frame_count"),
        "zip_size_bytes": facts.whole("zip_size_bytes"),
        "processing_time_seconds": facts.processing_time_seconds,
        "error_code": job.error_code,
        "error_message": job.error_message,
        "retry_count": max(0, shown.attempt - 1),
        "download_available": succeeded and job.main_artifact_id is not None,
        "created_at": shown.created_at,
        "started_at": shown.started_at,
        "completed_at": shown.completed_at,
    }
