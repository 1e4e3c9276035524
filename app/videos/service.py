"""Videos as their users see them: upload, list, look at, delete."""

import asyncio
import hashlib
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts.principal import Principal
from app.errors import AppError
from app.jobs import service as jobs
from app.jobs.errors import JobNotFoundError
from app.jobs.expiry import expire_job
from app.jobs.lifecycle import FINAL_JOB_STATUSES, JobStatus
from app.jobs.schemas import JobFilters, JobIn
from app.jobs.submission import RequestContext, Submission, Submitted
from app.jobs.tables import Job
from app.videos.errors import VideoNotFoundError
from app.videos.intake import Intake, StoredVideo
from app.videos.models import video_model_ids


async def submit_videos(
    submission: Submission,
    principal: Principal,
    intake: Intake,
    context: RequestContext,
    idempotency_key: str | None,
) -> list[Submitted]:
    """Make a job of each video of a form; all are checked before the first one is made.

    Raises:
        ForbiddenError, InvalidParametersError, …: as `Submission.check`, in the form's words.
        IdempotencyInFlightError, IdempotencyMismatchError: as `Submission.submit`.
    """
    requests = [
        JobIn(model_id=intake.model.id, input_params=intake.input_params(video))
        for video in intake.videos
    ]
    for number, request in enumerate(requests):
        try:
            await submission.check(principal, request)
        except AppError as error:
            raise _in_words_of_the_form(error, intake, number) from None

    async def submit(number: int, request: JobIn, video: StoredVideo) -> Submitted:
        submitted = await submission.submit(
            principal,
            request,
            context,
            idempotency_key=_key_of(idempotency_key, number),
            fingerprint=intake.fingerprint(video),
        )
        video.taken = not submitted.replayed
        return submitted

    done = await asyncio.gather(
        *(
            submit(number, request, video)
            for number, (request, video) in enumerate(zip(requests, intake.videos, strict=True))
        ),
        return_exceptions=True,
    )
    for result in done:
        if isinstance(result, BaseException):
            raise result
    return [result for result in done if isinstance(result, Submitted)]


def _key_of(idempotency_key: str | None, number: int) -> str | None:
    """The idempotency key of one of several jobs; another route's with the same key is not it."""
    if idempotency_key is None:
        return None
    return f"videos:{number}:{hashlib.sha256(idempotency_key.encode()).hexdigest()}"


def _in_words_of_the_form(error: AppError, intake: Intake, number: int) -> AppError:
    """An error about parameters with the names that they have in the form."""

    def renamed(text: str) -> str:
        text = text.replace(intake.parameter.pointer, f"/files/{number}")
        return text.replace("/input_params/", "/")

    error.detail = renamed(error.detail)
    error.errors = [
        {"pointer": renamed(item["pointer"]), "detail": item["detail"]} for item in error.errors
    ]
    return error


async def list_videos(
    session: AsyncSession,
    principal: Principal,
    filters: JobFilters,
    *,
    before: UUID | None,
    limit: int,
) -> Sequence[Job]:
    """Jobs on videos that the principal may read, newest first."""
    return await jobs.list_jobs(
        session,
        principal,
        filters,
        before=before,
        limit=limit,
        model_ids=await video_model_ids(session),
    )


async def get_video(session: AsyncSession, principal: Principal, video_id: UUID) -> Job:
    """A job on a video that the principal may read.

    Raises:
        VideoNotFoundError: there is none, or it is another organisation's.
        ForbiddenError: it is a colleague's, and the role does not reach it.
    """
    try:
        job = await jobs.get_job(session, principal, video_id)
    except JobNotFoundError:
        raise VideoNotFoundError from None
    if job.model_id not in await video_model_ids(session):
        raise VideoNotFoundError("This job has no video; `GET /jobs/{id}` answers it.")
    return job


async def delete_video(session: AsyncSession, principal: Principal, video_id: UUID) -> Job:
    """Cancel the job of a video that has not ended; of one that has, delete the files.

    Raises:
        VideoNotFoundError, ForbiddenError
    """
    job = await get_video(session, principal, video_id)
    job = await jobs.lock_controllable(session, principal, job.id)
    if job.status == JobStatus.EXPIRED:
        return job
    if job.status in FINAL_JOB_STATUSES:
        expired = await expire_job(session, job.id)
        assert expired is not None, "the row is locked"
        return expired
    return await jobs.cancel_job(session, principal, job.id)
