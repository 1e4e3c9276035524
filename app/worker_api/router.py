"""Routes for workers (`/worker/v1`): they report facts, each for one attempt."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Body, Depends
from sqlalchemy import Row

from app.accounts.dependencies import CurrentWorker
from app.accounts.errors import ForbiddenError, NotAuthenticatedError
from app.artifacts.errors import (
    ArtifactCommittedError,
    ArtifactMismatchError,
    ArtifactNotUploadedError,
    TicketNotFoundError,
    UploadTooLargeError,
)
from app.artifacts.tables import Artifact
from app.artifacts.tickets import ARTIFACT_TICKET_LIFE, create_artifact_ticket
from app.config import Settings
from app.db.session import DatabaseDependency, SessionDependency
from app.errors import InvalidRequestError
from app.jobs.attempts import AttemptService
from app.jobs.claiming import ClaimedAttempt
from app.jobs.claiming import claim as claim_attempt
from app.jobs.errors import (
    AttemptGoneError,
    AttemptNotFoundError,
    AttemptSupersededError,
    ReportConflictError,
    ResultIncompleteError,
)
from app.jobs.fence import require_running
from app.storage.base import ObjectStore
from app.web.dependencies import SettingsDependency, StoreDependency
from app.web.problems import problem_responses
from app.worker_api.delivery import artifact_record, commit_artifact, finish_attempt
from app.worker_api.dependencies import FENCED_ERRORS, AttemptToken, bind_attempt
from app.worker_api.stream_router import router as stream_router
from app.workers.service import REPORT_EVERY_SECONDS, record_heartbeat
from contract.artifacts import (
    ArtifactCommit,
    ArtifactRecord,
    UploadTicket,
    UploadTicketRequest,
)
from contract.attempts import (
    AttemptHeartbeat,
    AttemptHeartbeatReply,
    ClaimRequest,
    FinishReply,
    FinishRequest,
    InputFile,
    JobSpec,
    Reproduction,
)
from contract.kinds import ArtifactKind
from contract.workers import WorkerHeartbeat, WorkerHeartbeatReply

router = APIRouter(
    tags=["worker"],
    responses=problem_responses(NotAuthenticatedError, ForbiddenError, InvalidRequestError),
)
_attempts = APIRouter(prefix="/attempts/{attempt_id}", dependencies=[Depends(bind_attempt)])


@router.post("/workers/heartbeat", summary="A worker says what it is and can do")
async def worker_heartbeat(
    body: WorkerHeartbeat, _: CurrentWorker, session: SessionDependency
) -> WorkerHeartbeatReply:
    """Sent at start, every 30 s and, with `stopping`, at the end."""
    await record_heartbeat(session, body)
    return WorkerHeartbeatReply(next_heartbeat_seconds=REPORT_EVERY_SECONDS)


@_attempts.post(
    "/claim",
    summary="Claim an attempt",
    responses=problem_responses(AttemptNotFoundError, AttemptSupersededError, AttemptGoneError),
)
async def claim(
    attempt_id: UUID,
    body: ClaimRequest,
    _: CurrentWorker,
    database: DatabaseDependency,
    settings: SettingsDependency,
    store: StoreDependency,
) -> JobSpec:
    """The right to run an attempt, with all that is needed for it. Repeat it freely."""
    return _job_spec(await claim_attempt(database, settings, attempt_id, body), settings, store)


def _job_spec(claimed: ClaimedAttempt, settings: Settings, store: ObjectStore) -> JobSpec:
    row = claimed.row

    def downloadable(artifact: Artifact | Row[Any]) -> InputFile:
        seconds = max(settings.download_url_seconds, row.time_limit_seconds)
        return InputFile(
            parameter=artifact.parameter or artifact.name,
            object_name=artifact.object_key,
            url=store.presign_get(artifact.object_key, seconds),
            etag=artifact.etag,
            size_bytes=artifact.size_bytes,
            media_type=artifact.media_type,
        )

    reproduction = None
    main, manifest = claimed.original
    if row.reproduces is not None and main is not None and main.sha256 is not None:
        reproduction = Reproduction(
            of=row.reproduces,
            kind=ArtifactKind(main.kind),
            sha256=main.sha256,
            manifest=downloadable(manifest) if manifest else None,
        )
    return JobSpec(
        attempt_id=claimed.id,
        job_id=row.job_id,
        attempt=row.number,
        model_id=row.model_id,
        model_version=row.model_version,
        pipeline=row.pipeline,
        params=row.input_params,
        prompt=row.prompt,
        inputs=[downloadable(artifact) for artifact in claimed.inputs],
        checkpoint=downloadable(claimed.checkpoint) if claimed.checkpoint else None,
        reproduction=reproduction,
        time_limit_seconds=row.time_limit_seconds,
        lease_seconds=settings.lease_seconds,
        heartbeat_seconds=settings.heartbeat_seconds,
        lease_expires_at=row.lease_expires_at,
        attempt_token=claimed.token,
        traceparent=row.traceparent,
    )


@_attempts.post(
    "/heartbeat",
    summary="Extend an attempt's lease and report progress",
    responses=problem_responses(*FENCED_ERRORS),
)
async def attempt_heartbeat(
    attempt_id: UUID,
    body: AttemptHeartbeat,
    _: CurrentWorker,
    token: AttemptToken,
    session: SessionDependency,
    settings: SettingsDependency,
) -> AttemptHeartbeatReply:
    """The answer says whether to go on."""
    return await AttemptService(session, settings).heartbeat(attempt_id, token, body)


@_attempts.post(
    "/upload-tickets",
    summary="Get permission to upload an artifact",
    responses=problem_responses(*FENCED_ERRORS, ArtifactCommittedError, UploadTooLargeError),
)
async def artifact_ticket(  # noqa: PLR0917
    attempt_id: UUID,
    body: UploadTicketRequest,
    _: CurrentWorker,
    token: AttemptToken,
    database: DatabaseDependency,
    settings: SettingsDependency,
    store: StoreDependency,
) -> UploadTicket:
    """A presigned URL for one PUT under the attempt's own keys."""
    async with database.statements() as connection:
        attempt = await require_running(connection, settings, attempt_id, token)
        ticket = await create_artifact_ticket(connection, settings, attempt, body)
    return UploadTicket(
        ticket_id=ticket.id,
        upload_url=store.presign_put(ticket.object_key, int(ARTIFACT_TICKET_LIFE.total_seconds())),
        headers={"Content-Type": ticket.media_type},
        expires_at=ticket.expires_at,
    )


@_attempts.post(
    "/artifacts",
    summary="Commit an uploaded artifact",
    responses=problem_responses(
        *FENCED_ERRORS, TicketNotFoundError, ArtifactNotUploadedError, ArtifactMismatchError
    ),
)
async def commit(  # noqa: PLR0917
    attempt_id: UUID,
    body: ArtifactCommit,
    _: CurrentWorker,
    token: AttemptToken,
    database: DatabaseDependency,
    settings: SettingsDependency,
    store: StoreDependency,
) -> ArtifactRecord:
    """The object is checked (it exists, size, SHA-256, first bytes) and then becomes visible."""
    artifact = await commit_artifact(
        database,
        store,
        settings,
        attempt_id=attempt_id,
        token=token,
        ticket_id=body.ticket_id,
    )
    return artifact_record(artifact)


@_attempts.post(
    "/finish",
    summary="Report how an attempt ended",
    responses=problem_responses(
        *FENCED_ERRORS,
        ReportConflictError,
        ResultIncompleteError,
        TicketNotFoundError,
        ArtifactNotUploadedError,
        ArtifactMismatchError,
    ),
)
async def finish(  # noqa: PLR0917
    attempt_id: UUID,
    body: Annotated[FinishRequest, Body()],
    _: CurrentWorker,
    token: AttemptToken,
    database: DatabaseDependency,
    settings: SettingsDependency,
    store: StoreDependency,
) -> FinishReply:
    """The worker says what happened; whether the job is tried again is decided here.

    Files that the report names and that are not committed yet are checked and committed with it.
    """
    return await finish_attempt(
        database, store, settings, attempt_id=attempt_id, token=token, report=body
    )


_attempts.include_router(stream_router)
router.include_router(_attempts)
