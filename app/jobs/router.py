"""Routes of jobs that are there: follow, control."""

from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, BackgroundTasks, Header, Query, Request, Response, status
from fastapi.responses import StreamingResponse

from app.accounts.dependencies import CurrentPrincipal
from app.accounts.errors import ForbiddenError, NotAuthenticatedError
from app.catalog.errors import ModelNotFoundError
from app.db.session import DatabaseDependency, SessionDependency
from app.errors import InvalidRequestError
from app.jobs import service
from app.jobs.errors import JobNotFoundError, JobStateError
from app.jobs.lifecycle import FINAL_JOB_STATUSES
from app.jobs.metrics import job_metrics
from app.jobs.poll import JobReader, Look, answer_headers
from app.jobs.repository import find_events
from app.jobs.schemas import EventList, EventOut, JobFilters, JobOut, JobPage, MetricsOut
from app.jobs.watching import stream_events, wait_until
from app.queueing.rq_queue import WorkerCommands
from app.web.conditional import matches, preferred_wait
from app.web.cursors import decode_cursor, encode_cursor
from app.web.problems import problem_responses
from app.web.watchers import TooManyWatchersError, Watchers

router = APIRouter(
    prefix="/jobs",
    tags=["jobs"],
    responses=problem_responses(NotAuthenticatedError, ForbiddenError, InvalidRequestError),
)

_MAX_EVENTS = 1000


@router.get("", include_in_schema=False)
@router.get("/", summary="List jobs, newest first")
async def list_jobs(
    principal: CurrentPrincipal,
    session: SessionDependency,
    filters: Annotated[JobFilters, Query()],
) -> JobPage:
    """Your jobs, or your organisation's if your role reads them all."""
    jobs = await service.list_jobs(
        session,
        principal,
        filters,
        before=decode_cursor(filters.cursor),
        limit=filters.limit + 1,
    )
    page = jobs[: filters.limit]
    return JobPage(
        items=[JobOut.of(job) for job in page],
        next_cursor=encode_cursor(page[-1].id) if len(jobs) > filters.limit else None,
    )


@router.get("/metrics", summary="Counts, waits, run times and throughput")
async def metrics(
    principal: CurrentPrincipal,
    session: SessionDependency,
    window_hours: Annotated[int, Query(ge=1, le=24 * 90)] = 24,
) -> MetricsOut:
    """Numbers of the jobs you may read that were created within the window."""
    return await job_metrics(session, principal, window_hours)


@router.get(
    "/{job_id}",
    summary="Get a job",
    response_model=JobOut,
    responses={
        **problem_responses(
            NotAuthenticatedError, ForbiddenError, JobNotFoundError, TooManyWatchersError
        ),
        304: {"description": "Not changed since the `If-None-Match` entity tag"},
    },
)
async def get_job(  # noqa: PLR0917
    job_id: UUID,
    request: Request,
    principal: CurrentPrincipal,
    database: DatabaseDependency,
    if_none_match: Annotated[str | None, Header()] = None,
    prefer: Annotated[
        str | None, Header(description="`wait=N`: hold the answer up to N seconds (60 at most)")
    ] = None,
) -> Response:
    """Progress, stage, previews, error and estimates of one job.

    Poll it with `If-None-Match`, or let it wait: with `Prefer: wait=30` the answer comes when the
    job is no longer as your entity tag has it (or, without one, when its status has changed).
    """
    state = request.app.state
    reader: JobReader = state.job_reader
    first_status: str | None = None

    async def look() -> Look:
        nonlocal first_status
        seen = await reader.look(principal, job_id)
        first_status = first_status or seen.status
        return seen

    def enough(seen: Look) -> bool:
        if seen.status in FINAL_JOB_STATUSES:
            return True
        if if_none_match:
            return not matches(if_none_match, seen.etag)
        return seen.status != first_status

    wait = preferred_wait(prefer)
    if wait:
        with state.watchers.counted(principal.user_id):
            seen = await wait_until(
                database, job_id, look, enough, seconds=wait, stopping=state.stopping
            )
    else:
        seen = await look()
    headers = answer_headers(seen)
    if wait:
        headers["Preference-Applied"] = f"wait={wait}"
    if matches(if_none_match, seen.etag):
        return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers=headers)
    return Response(seen.body, media_type="application/json", headers=headers)


@router.get("/{job_id}/events/", include_in_schema=False)
@router.get(
    "/{job_id}/events",
    summary="What happened to a job",
    response_model=EventList,
    responses={
        **problem_responses(
            NotAuthenticatedError, ForbiddenError, JobNotFoundError, TooManyWatchersError
        ),
        200: {
            "description": "The events, as a list or, with `Accept: text/event-stream`, live",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
    },
)
async def job_events(  # noqa: PLR0917
    job_id: UUID,
    request: Request,
    principal: CurrentPrincipal,
    database: DatabaseDependency,
    event_type: Annotated[
        str | None,
        Query(
            alias="type",
            max_length=64,
            pattern=r"^[a-z_.]+\*?$",
            description="a type, or its beginning with a star: `zone.*`",
        ),
    ] = None,
    after: Annotated[int, Query(ge=0, le=(1 << 63) - 1, description="an event's id")] = 0,
    limit: Annotated[int, Query(ge=1, le=_MAX_EVENTS)] = 200,
    last_event_id: Annotated[str | None, Header(pattern=r"^\d{1,18}$")] = None,
) -> Response:
    """The job's events in order; as a stream they are replayed after `Last-Event-ID` and go on."""
    after = int(last_event_id) if last_event_id else after
    reader: JobReader = request.app.state.job_reader
    await reader.require_readable(principal, job_id)
    if "text/event-stream" not in request.headers.get("accept", ""):
        async with database.transaction() as session:
            events = await find_events(
                session, job_id, after=after, type_pattern=event_type, limit=limit
            )
        listing = EventList(items=[EventOut.of(event) for event in events])
        return Response(listing.model_dump_json(), media_type="application/json")
    watchers: Watchers = request.app.state.watchers
    watchers.check(principal.user_id)  # an error can only be answered before the stream begins

    async def counted() -> AsyncIterator[str]:
        with watchers.counted(principal.user_id):
            async for part in stream:
                yield part

    stream = stream_events(
        database,
        job_id,
        after=after,
        type_pattern=event_type,
        stopping=request.app.state.stopping,
    )
    return StreamingResponse(
        counted(),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


_CONTROL_ERRORS = (NotAuthenticatedError, ForbiddenError, JobNotFoundError, JobStateError)


@router.delete("/{job_id}", summary="Cancel a job", responses=problem_responses(*_CONTROL_ERRORS))
@router.post(
    "/{job_id}/cancel", summary="Cancel a job", responses=problem_responses(*_CONTROL_ERRORS)
)
async def cancel_job(
    job_id: UUID,
    request: Request,
    principal: CurrentPrincipal,
    session: SessionDependency,
    background: BackgroundTasks,
) -> JobOut:
    """Cancel a job that has not ended: a queued one at once, a running one as soon as it stops."""
    job = await service.cancel_job(session, principal, job_id)
    attempt = await service.running_attempt(session, job)
    if attempt is not None:
        # Only to be quicker: the next heartbeat's answer says the same. Runs after the commit.
        commands: WorkerCommands = request.app.state.worker_commands
        background.add_task(commands.stop, attempt.worker_name or "", attempt.id)
    return JobOut.of(job)


@router.post(
    "/{job_id}/retry",
    summary="Run a failed or cancelled job again",
    responses=problem_responses(*_CONTROL_ERRORS, ModelNotFoundError),
)
async def retry_job(
    job_id: UUID, principal: CurrentPrincipal, session: SessionDependency
) -> JobOut:
    """Queue the same job again with a new budget of attempts."""
    return JobOut.of(await service.retry_job(session, principal, job_id))
