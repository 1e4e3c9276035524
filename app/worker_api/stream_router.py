"""Routes for files that a worker uploads while they grow (`/attempts/{id}/streams`)."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends

from app.accounts.dependencies import CurrentWorker
from app.artifacts.errors import (
    ArtifactCommittedError,
    ArtifactMismatchError,
    ArtifactNotUploadedError,
    TicketNotFoundError,
    UploadTooLargeError,
)
from app.db.session import DatabaseDependency
from app.web.dependencies import SettingsDependency, StoreDependency
from app.web.problems import problem_responses
from app.worker_api.delivery import artifact_record
from app.worker_api.dependencies import FENCED_ERRORS, AttemptToken
from app.worker_api.streaming import Streams
from contract.artifacts import ArtifactRecord
from contract.streams import (
    StreamCompletion,
    StreamParts,
    StreamPartsRequest,
    StreamRequest,
    StreamTicket,
)

router = APIRouter(prefix="/streams")


async def _streams(
    attempt_id: UUID,
    _: CurrentWorker,
    token: AttemptToken,
    database: DatabaseDependency,
    settings: SettingsDependency,
    store: StoreDependency,
) -> Streams:
    return Streams(database, store, settings, attempt_id=attempt_id, token=token)


AttemptStreams = Annotated[Streams, Depends(_streams)]


@router.post(
    "",
    summary="Begin to upload an artifact that is still being made",
    responses=problem_responses(
        *FENCED_ERRORS, ArtifactCommittedError, ArtifactMismatchError, UploadTooLargeError
    ),
)
async def begin(body: StreamRequest, streams: AttemptStreams) -> StreamTicket:
    """Asked again for the same name, all of it begins anew."""
    return await streams.begin(body)


@router.post(
    "/parts",
    summary="Get permission to upload parts of an artifact",
    responses=problem_responses(*FENCED_ERRORS, TicketNotFoundError, UploadTooLargeError),
)
async def parts(body: StreamPartsRequest, streams: AttemptStreams) -> StreamParts:
    """A presigned URL for one PUT of each part; all parts but the last have 8 MiB."""
    return await streams.parts(body)


@router.post(
    "/complete",
    summary="Commit an artifact whose parts are all in storage",
    responses=problem_responses(
        *FENCED_ERRORS,
        TicketNotFoundError,
        ArtifactCommittedError,
        ArtifactNotUploadedError,
        ArtifactMismatchError,
        UploadTooLargeError,
    ),
)
async def complete(body: StreamCompletion, streams: AttemptStreams) -> ArtifactRecord:
    """The parts are put together and the file is checked as any other, then it is visible."""
    return artifact_record(await streams.complete(body))
