"""Routes that make jobs: create, check, reproduce."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request, Response, status

from app.accounts.dependencies import CurrentPrincipal
from app.accounts.errors import ForbiddenError, NotAuthenticatedError
from app.artifacts.errors import (
    ImageTooLargeError,
    UploadExpiredError,
    UploadMismatchError,
    UploadMissingError,
    UploadNotFoundError,
    UploadTooLargeError,
    UploadTypeError,
)
from app.catalog.errors import InvalidParametersError, ModelNotFoundError, PromptError
from app.db.session import DatabaseDependency
from app.errors import InvalidRequestError
from app.jobs.errors import (
    IdempotencyInFlightError,
    IdempotencyMismatchError,
    InputGoneError,
    InputReplacedError,
    JobExpiredError,
    JobNotFoundError,
    JobStateError,
    ModelVersionChangedError,
    NoWorkerError,
)
from app.jobs.estimates import Estimate, Place, count_ahead, find_figures
from app.jobs.schemas import JobIn, JobOut, ValidationOut
from app.jobs.submission import RequestContext, Submission, Submitted
from app.jobs.views import answer_submission
from app.limits.dependencies import CountedCreate
from app.notifications.errors import DestinationError
from app.usage.errors import QuotaExceededError
from app.web.dependencies import SettingsDependency
from app.web.problems import problem_responses
from app.workers.service import live_fleet

router = APIRouter(
    prefix="/jobs",
    tags=["jobs"],
    responses=problem_responses(NotAuthenticatedError, ForbiddenError, InvalidRequestError),
)

_FITNESS_ERRORS = (
    NotAuthenticatedError,
    ForbiddenError,
    ModelNotFoundError,
    InvalidParametersError,
    PromptError,
    DestinationError,
    UploadNotFoundError,
    UploadMissingError,
    UploadExpiredError,
    UploadTooLargeError,
    UploadMismatchError,
    UploadTypeError,
    ImageTooLargeError,
    QuotaExceededError,
)

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="Repeating a request with the same key creates one job only",
    ),
]


RequireWorker = Annotated[
    bool, Query(description="refuse the job (409) if no live worker serves its model now")
]


def _context(request: Request) -> RequestContext:
    return RequestContext(
        request_id=request.state.request_id, traceparent=request.state.traceparent
    )


@router.post(
    "",
    include_in_schema=False,
    status_code=status.HTTP_201_CREATED,
    dependencies=[CountedCreate],
)
@router.post(
    "/",
    status_code=status.HTTP_201_CREATED,
    summary="Create a job",
    dependencies=[CountedCreate],
    response_model=JobOut,
    responses=problem_responses(
        *_FITNESS_ERRORS, IdempotencyMismatchError, IdempotencyInFlightError, NoWorkerError
    ),
)
async def create_job(
    body: JobIn,
    request: Request,
    principal: CurrentPrincipal,
    idempotency_key: IdempotencyKey = None,
    x_idempotency_key: IdempotencyKey = None,
    *,
    require_worker: RequireWorker = False,
) -> Response:
    """Check everything, then queue the job. Nothing is left behind if any check fails.

    Uploaded files must exist, be yours, small enough for the model and really of an accepted type.
    A job whose model no live worker serves is queued with a `warning`, and waits for one.
    """
    submission: Submission = request.app.state.submission
    submitted = await submission.submit(
        principal,
        body,
        _context(request),
        idempotency_key=idempotency_key or x_idempotency_key,
        require_worker=require_worker,
    )
    return await _created(request, submitted)


async def _created(request: Request, submitted: Submitted) -> Response:
    state = request.app.state
    answer = await answer_submission(state.database, state.settings, submitted)
    return Response(
        answer.body,
        status_code=status.HTTP_201_CREATED,
        media_type="application/json",
        headers=dict(answer.headers),
    )


@router.post(
    "/validate",
    summary="Check a job without creating it",
    responses=problem_responses(*_FITNESS_ERRORS),
)
async def validate_job(
    body: JobIn,
    request: Request,
    principal: CurrentPrincipal,
    database: DatabaseDependency,
    settings: SettingsDependency,
) -> ValidationOut:
    """The checks of creating a job, and how long it would have to wait and would run."""
    submission: Submission = request.app.state.submission
    checked = await submission.check(principal, body)
    model = checked.known.model
    live_seconds = settings.worker_live_seconds
    async with database.transaction() as session:
        fleet = await live_fleet(session, live_seconds)
    place, pair = Place(principal.user_id, model.queue, model.id), (model.queue, model.id)
    ahead = await count_ahead(database, [place])
    figures = await find_figures(database, [pair], live_seconds)
    estimate = Estimate.of(ahead[place], figures[pair])
    return ValidationOut(
        model_id=model.id,
        input_params=checked.input_params,
        served=fleet.serving(model.queue, model.pipeline) > 0,
        queue_position=estimate.queue_position,
        estimated_wait_seconds=estimate.wait_seconds,
        estimated_run_seconds=estimate.run_seconds,
    )


@router.post(
    "/{job_id}/reproduce",
    status_code=status.HTTP_201_CREATED,
    summary="Make a job's result again",
    dependencies=[CountedCreate],
    response_model=JobOut,
    responses=problem_responses(
        *(NotAuthenticatedError, ForbiddenError, JobNotFoundError, JobStateError, JobExpiredError),
        *(ModelNotFoundError, ModelVersionChangedError, InvalidParametersError),
        *(InputGoneError, InputReplacedError, UploadExpiredError),
        *(NoWorkerError, IdempotencyMismatchError, IdempotencyInFlightError, QuotaExceededError),
    ),
)
async def reproduce_job(
    job_id: UUID,
    request: Request,
    principal: CurrentPrincipal,
    idempotency_key: IdempotencyKey = None,
    x_idempotency_key: IdempotencyKey = None,
    *,
    require_worker: RequireWorker = False,
) -> Response:
    """Create a job of the same model version, parameters, seed, prompt and input as another.

    The new job `reproduces` that one, which must have succeeded. In the end the section
    `reproduction` of its manifest says whether the results are equal bit by bit, and if not, what
    else was different.
    """
    submission: Submission = request.app.state.submission
    submitted = await submission.reproduce(
        principal,
        job_id,
        _context(request),
        idempotency_key=idempotency_key or x_idempotency_key,
        require_worker=require_worker,
    )
    return await _created(request, submitted)
