"""Routes of files: upload tickets, artifacts and downloads."""

from collections.abc import Iterable, Sequence
from uuid import UUID

from fastapi import APIRouter, Request
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts.dependencies import CurrentPrincipal
from app.accounts.errors import ForbiddenError, NotAuthenticatedError
from app.accounts.principal import Principal
from app.accounts.roles import Permission
from app.artifacts.errors import ArtifactNotFoundError, UploadTooLargeError
from app.artifacts.tables import Artifact
from app.artifacts.uploads import create_upload_ticket
from app.audit.actor import Actor
from app.audit.dependencies import CurrentActor
from app.audit.service import Action, record
from app.config import Settings
from app.db.session import SessionDependency
from app.errors import InvalidRequestError
from app.jobs import service
from app.jobs.errors import JobExpiredError, JobNotFoundError, JobNotSucceededError
from app.jobs.lifecycle import JobStatus
from app.jobs.schemas import ArtifactList, ArtifactOut, DownloadOut, UploadTicketIn, UploadTicketOut
from app.jobs.tables import Job
from app.limits.dependencies import CountedDownload
from app.storage.base import ObjectStore
from app.usage.errors import QuotaExceededError
from app.web.dependencies import SettingsDependency, StoreDependency
from app.web.problems import problem_responses
from contract.kinds import ArtifactKind

router = APIRouter(
    prefix="/jobs",
    tags=["files"],
    responses=problem_responses(NotAuthenticatedError, ForbiddenError, InvalidRequestError),
)

_READ_ERRORS = (NotAuthenticatedError, ForbiddenError, JobNotFoundError, JobExpiredError)


@router.post(
    "/upload-ticket",
    summary="Get permission to upload a file",
    responses=problem_responses(UploadTooLargeError, QuotaExceededError),
)
async def create_ticket(  # noqa: PLR0917
    body: UploadTicketIn,
    request: Request,
    principal: CurrentPrincipal,
    session: SessionDependency,
    settings: SettingsDependency,
    store: StoreDependency,
) -> UploadTicketOut:
    """A presigned URL to PUT one file to storage; the bytes never pass through this API."""
    principal.require(Permission.CREATE_JOBS)
    ticket = await create_upload_ticket(
        session,
        principal,
        settings,
        request.app.state.usage_limits,
        filename=body.filename,
        content_type=body.content_type,
        size_bytes=body.size_bytes,
        sha256=body.sha256,
    )
    return UploadTicketOut(
        upload_url=store.presign_put(ticket.object_key, settings.upload_ticket_seconds),
        object_name=ticket.object_key,
        expires_in=settings.upload_ticket_seconds,
        headers={"Content-Type": ticket.media_type},
    )


def _download_url(
    store: ObjectStore, settings: Settings, job: Job, artifact: Artifact
) -> DownloadOut:
    extension = artifact.name.rpartition(".")[2]
    return DownloadOut(
        download_url=store.presign_get(
            artifact.object_key,
            settings.download_url_seconds,
            download_name=f"{job.model_id}-{str(job.id)[-12:]}.{extension}",
            media_type=artifact.media_type,
        ),
        expires_in=settings.download_url_seconds,
    )


async def _downloadable(
    session: AsyncSession, principal: Principal, job_id: UUID
) -> tuple[Job, Sequence[Artifact]]:
    """A job of which the principal may have the files, and those."""
    principal.require(Permission.DOWNLOAD_FILES)
    job, artifacts = await service.readable_artifacts(session, principal, job_id)
    if job.status == JobStatus.EXPIRED:
        raise JobExpiredError
    return job, artifacts


def _record_links(
    session: AsyncSession, actor: Actor, job: Job, artifacts: Iterable[Artifact]
) -> None:
    """Say who was given URLs of which files: who uses them, nobody can see."""
    record(
        session,
        actor,
        Action.FILE_LINKED,
        organisation_id=job.organisation_id,
        target_id=job.id,
        data={"files": [artifact.name for artifact in artifacts]},
    )


@router.get(
    "/{job_id}/download",
    summary="Download the result",
    dependencies=[CountedDownload],
    responses=problem_responses(*_READ_ERRORS, JobNotSucceededError, ArtifactNotFoundError),
)
async def download(  # noqa: PLR0917
    job_id: UUID,
    principal: CurrentPrincipal,
    actor: CurrentActor,
    session: SessionDependency,
    settings: SettingsDependency,
    store: StoreDependency,
) -> DownloadOut:
    """A presigned URL for the main artifact, saved by browsers under a speaking name."""
    job, artifacts = await _downloadable(session, principal, job_id)
    if job.status != JobStatus.SUCCEEDED:
        raise JobNotSucceededError(f"The job is {job.status}; only a SUCCEEDED one has a result.")
    main = next((item for item in artifacts if item.id == job.main_artifact_id), None)
    if main is None:
        raise ArtifactNotFoundError
    _record_links(session, actor, job, [main])
    return _download_url(store, settings, job, main)


@router.get("/{job_id}/artifacts/", include_in_schema=False, dependencies=[CountedDownload])
@router.get(
    "/{job_id}/artifacts",
    summary="List a job's files",
    dependencies=[CountedDownload],
    responses=problem_responses(*_READ_ERRORS),
)
async def list_artifacts(  # noqa: PLR0917
    job_id: UUID,
    principal: CurrentPrincipal,
    actor: CurrentActor,
    session: SessionDependency,
    settings: SettingsDependency,
    store: StoreDependency,
) -> ArtifactList:
    """Inputs, previews, results, manifest and log, each with a presigned URL."""
    job, artifacts = await _downloadable(session, principal, job_id)
    _record_links(session, actor, job, artifacts)
    expires_in = settings.download_url_seconds
    return ArtifactList(
        items=[
            ArtifactOut.of(
                artifact,
                store.presign_get(artifact.object_key, expires_in, media_type=artifact.media_type),
                expires_in,
            )
            for artifact in artifacts
        ]
    )


@router.get(
    "/{job_id}/artifacts/{kind}",
    summary="Download one kind of file",
    dependencies=[CountedDownload],
    responses=problem_responses(*_READ_ERRORS, ArtifactNotFoundError),
)
async def download_kind(  # noqa: PLR0917
    job_id: UUID,
    kind: ArtifactKind,
    principal: CurrentPrincipal,
    actor: CurrentActor,
    session: SessionDependency,
    settings: SettingsDependency,
    store: StoreDependency,
) -> DownloadOut:
    """A presigned URL for the first artifact of a kind."""
    job, artifacts = await _downloadable(session, principal, job_id)
    found = next((item for item in artifacts if item.kind == kind), None)
    if found is None:
        kinds = ", ".join(sorted({item.kind for item in artifacts})) or "none"
        raise ArtifactNotFoundError(f"The job has no artifact of kind {kind}; it has {kinds}.")
    _record_links(session, actor, job, [found])
    return _download_url(store, settings, job, found)
