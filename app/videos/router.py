"""Routes of videos, and of a job's status as the replaced systems had it."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, BackgroundTasks, Query, Request, Response, status

from app.accounts.dependencies import CurrentPrincipal
from app.accounts.errors import ForbiddenError, NotAuthenticatedError
from app.accounts.roles import Permission
from app.artifacts.errors import UploadTooLargeError, UploadTypeError
from app.catalog.errors import InvalidParametersError, ModelNotFoundError
from app.db.session import DatabaseDependency, SessionDependency
from app.errors import InvalidRequestError
from app.jobs import service as jobs
from app.jobs.errors import (
    IdempotencyInFlightError,
    IdempotencyMismatchError,
    JobNotFoundError,
)
from app.jobs.schemas import JobFilters
from app.jobs.stopping import stop_worker_soon
from app.jobs.submission import RequestContext, Submitted
from app.jobs.submission_router import IdempotencyKey
from app.jobs.views import no_worker_warning
from app.limits.dependencies import CountedCreate
from app.limits.limiter import Limiter
from app.limits.policies import Kind
from app.usage.errors import QuotaExceededError
from app.usage.service import UsageLimits
from app.videos import service
from app.videos.errors import (
    InvalidFormError,
    NoVideoError,
    TooManyUploadsError,
    UnsupportedFormError,
    UploadInterruptedError,
    VideoNotFoundError,
)
from app.videos.facts import find_facts
from app.videos.form import Form
from app.videos.intake import MAX_VIDEOS, Intake, StoredVideo
from app.videos.schemas import JobStatusOut, UploadedVideo, VideoOut, VideoPage
from app.web.dependencies import SettingsDependency, StoreDependency
from app.web.problems import problem_responses
from app.web.queries import decode_cursor, encode_cursor
from app.web.streams import streams_body
from app.web.watchers import Watchers

"""Its body is read as it arrives."""

MAX_UPLOADS = 8
"""Uploads of one user that may be under way at the same time in one process."""

router = APIRouter(
    prefix="/videos",
    tags=["videos"],
    responses=problem_responses(NotAuthenticatedError, ForbiddenError, InvalidRequestError),
)
status_router = APIRouter(
    prefix="/jobs",
    tags=["videos"],
    responses=problem_responses(NotAuthenticatedError, ForbiddenError, InvalidRequestError),
)

_FORM: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["files"],
                "properties": {
                    "model_id": {
                        "type": "string",
                        "default": "video-frames-v1",
                        "description": "which model to run; stands before the files",
                    },
                    "files": {
                        "type": "array",
                        "items": {"type": "string", "format": "binary"},
                        "minItems": 1,
                        "maxItems": MAX_VIDEOS,
                        "description": "every part that has a file name, whatever its field is "
                        "called",
                    },
                },
                "additionalProperties": {
                    "type": "string",
                    "description": "a parameter of the model, such as `fps`; lists and objects "
                    "as JSON",
                },
            },
            "examples": {
                "one video": {"value": {"fps": "0.5", "files": ["talk.mp4"]}},
                "several": {"value": {"files": ["a.mp4", "b.mov"]}},
            },
        }
    },
}


@router.post(
    "/upload",
    status_code=status.HTTP_202_ACCEPTED,
    summary="Upload videos and queue a job for each",
    dependencies=[CountedCreate],
    responses=problem_responses(
        *(InvalidFormError, UnsupportedFormError, NoVideoError, UploadInterruptedError),
        *(UploadTypeError, UploadTooLargeError, TooManyUploadsError),
        *(ModelNotFoundError, InvalidParametersError),
        *(IdempotencyMismatchError, IdempotencyInFlightError, QuotaExceededError),
    ),
    openapi_extra={"requestBody": _FORM},
)
@streams_body
async def upload_videos(  # noqa: PLR0917
    request: Request,
    response: Response,
    principal: CurrentPrincipal,
    database: DatabaseDependency,
    settings: SettingsDependency,
    store: StoreDependency,
    idempotency_key: IdempotencyKey = None,
    x_idempotency_key: IdempotencyKey = None,
) -> UploadedVideo | list[UploadedVideo]:
    """One video is answered with an object, several with a list in their order.

    The bytes go on to storage as they come. Each file is looked at before it is stored, and all
    are checked with their parameters before the first job is made: if one is refused, no job is
    made and no file is kept. Large files are better uploaded with a ticket (`POST
    /jobs/upload-ticket`), which spares them the way through the API.
    """
    principal.require(Permission.CREATE_JOBS)
    uploads: Watchers = request.app.state.uploads
    form = Form.of(request)
    with uploads.counted(principal.user_id):
        usage: UsageLimits = request.app.state.usage_limits
        async with Intake(database, store, settings, usage, principal) as intake:
            await intake.read(form)
            limiter: Limiter = request.app.state.limiter
            for _ in intake.videos[1:]:  # the first is counted already
                await limiter.count(request.scope, principal, Kind.CREATES)
            submitted = await service.submit_videos(
                request.app.state.submission,
                principal,
                intake,
                RequestContext(request.state.request_id, request.state.traceparent),
                idempotency_key or x_idempotency_key,
            )
            videos = [*map(_uploaded, submitted, intake.videos)]
    if all(one.replayed for one in submitted):
        response.headers["Idempotency-Replayed"] = "true"
    if len(videos) > 1:
        return videos
    response.headers["Location"] = f"/api/v1/videos/{videos[0].job_id}"
    return videos[0]


def _uploaded(submitted: Submitted, video: StoredVideo) -> UploadedVideo:
    job = submitted.job
    return UploadedVideo(
        job_id=job.id,
        status=job.status,
        filename=video.filename,
        size_bytes=video.size_bytes,
        warning=no_worker_warning(job.model_id) if submitted.served is False else None,
    )


@router.get("", summary="List videos, newest first")
@router.get("/", include_in_schema=False)
async def list_videos(
    principal: CurrentPrincipal,
    session: SessionDependency,
    filters: Annotated[JobFilters, Query()],
) -> VideoPage:
    """Your jobs on videos, or your organisation's if your role reads them all."""
    found = await service.list_videos(
        session,
        principal,
        filters,
        before=decode_cursor(filters.cursor),
        limit=filters.limit + 1,
    )
    page = found[: filters.limit]
    facts = await find_facts(session, page)
    return VideoPage(
        items=[VideoOut.of(job, facts[job.id]) for job in page],
        next_cursor=encode_cursor(page[-1].id) if len(found) > filters.limit else None,
    )


@router.get("/{video_id}", summary="Get a video", responses=problem_responses(VideoNotFoundError))
async def get_video(
    video_id: UUID, principal: CurrentPrincipal, session: SessionDependency
) -> VideoOut:
    """The job on a video: how far it is, and what has come of it."""
    job = await service.get_video(session, principal, video_id)
    return VideoOut.of(job, (await find_facts(session, [job]))[job.id])


@router.delete(
    "/{video_id}", summary="Delete a video", responses=problem_responses(VideoNotFoundError)
)
async def delete_video(
    video_id: UUID,
    request: Request,
    principal: CurrentPrincipal,
    session: SessionDependency,
    background: BackgroundTasks,
) -> VideoOut:
    """Cancel the job if it has not ended; if it has, its files are deleted and it is EXPIRED.

    Deleted again, it is answered as it is.
    """
    job = await service.delete_video(session, principal, video_id)
    await stop_worker_soon(session, job, request.app.state.worker_commands, background)
    return VideoOut.of(job, (await find_facts(session, [job]))[job.id])


@status_router.get(
    "/{job_id}/status",
    summary="Get a job's status",
    responses=problem_responses(JobNotFoundError),
)
async def get_job_status(
    job_id: UUID, principal: CurrentPrincipal, session: SessionDependency
) -> JobStatusOut:
    """A job as the video systems showed it; `GET /jobs/{job_id}` tells more, and can wait."""
    job = await jobs.get_job(session, principal, job_id)
    return JobStatusOut.of(job, (await find_facts(session, [job]))[job.id])
