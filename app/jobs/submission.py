"""Creating jobs: every check first, then one transaction for job, inputs and first event."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts.principal import Principal
from app.accounts.roles import Permission
from app.artifacts.tables import Artifact
from app.artifacts.uploads import CheckedUpload, check_upload, find_upload, keep_uploads
from app.catalog.parameters import check_prompt, complete_parameters, upload_parameters
from app.catalog.service import get_model
from app.catalog.tables import Model
from app.db.session import Database
from app.jobs.errors import IdempotencyInFlightError, IdempotencyMismatchError
from app.jobs.repository import (
    announce_waiting_job,
    find_by_idempotency_key,
    record_event,
    try_lock_idempotency_key,
)
from app.jobs.schemas import JobIn
from app.jobs.tables import Job
from app.storage.base import ObjectStore
from contract.kinds import ArtifactKind


@dataclass(frozen=True)
class CheckedRequest:
    """A request that was found fit to become a job."""

    model: Model
    input_params: dict[str, Any]
    prompt: str | None
    uploads: list[CheckedUpload]


@dataclass(frozen=True)
class RequestContext:
    """Where a request came from, kept on the job for its logs."""

    request_id: str
    traceparent: str


async def check_request(
    database: Database, store: ObjectStore, principal: Principal, request: JobIn
) -> CheckedRequest:
    """Check a request as a whole, without creating anything.

    Storage is asked outside any transaction, so that a slow store holds no connection.

    Raises:
        ForbiddenError: the role may not create jobs.
        ModelNotFoundError, InvalidParametersError, PromptError: the request does not fit.
        UploadNotFoundError, UploadMissingError, …: an upload it names cannot be used.
    """
    principal.require(Permission.CREATE_JOBS)
    async with database.transaction() as session:
        model = await get_model(session, request.model_id)
        params = complete_parameters(model, request.input_params)
        prompt = check_prompt(model, request.prompt)
        tickets = [
            (await find_upload(session, principal, parameter, params[parameter.name]), parameter)
            for parameter in upload_parameters(model.parameters)
            if params.get(parameter.name) is not None
        ]
    uploads = [await check_upload(store, ticket, parameter) for ticket, parameter in tickets]
    return CheckedRequest(model, params, prompt, uploads)


def request_hash(request: JobIn) -> str:
    """The SHA-256 of a request's canonical JSON, to tell whether a repeat is the same."""
    canonical = json.dumps(request.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()


async def find_replay(
    database: Database, principal: Principal, key: str, body_hash: str
) -> Job | None:
    """The job that the same request with this idempotency key created before.

    Raises:
        IdempotencyMismatchError: the key was used with another body.
    """
    async with database.transaction() as session:
        return await _find_replay(session, principal, key, body_hash)


async def _find_replay(
    session: AsyncSession, principal: Principal, key: str, body_hash: str
) -> Job | None:
    earlier = await find_by_idempotency_key(session, principal.user_id, key)
    if earlier is not None and earlier.request_hash != body_hash:
        raise IdempotencyMismatchError
    return earlier


async def create_job(
    session: AsyncSession,
    principal: Principal,
    checked: CheckedRequest,
    context: RequestContext,
    *,
    idempotency_key: str | None = None,
    body_hash: str | None = None,
) -> tuple[Job, bool]:
    """Write the job, its inputs and its first event; Redis is not touched.

    Returns:
        The job, and whether it was created just now (else the idempotency key had created it).

    Raises:
        IdempotencyInFlightError: another request with this key is being handled.
        IdempotencyMismatchError: the key was used with another body.
    """
    if idempotency_key is not None and body_hash is not None:
        if not await try_lock_idempotency_key(session, principal.user_id, idempotency_key):
            raise IdempotencyInFlightError
        earlier = await _find_replay(session, principal, idempotency_key, body_hash)
        if earlier:
            return earlier, False
    job = Job(
        organisation_id=principal.organisation_id,
        user_id=principal.user_id,
        model_id=checked.model.id,
        model_version=checked.model.version,
        queue=checked.model.queue,
        input_params=checked.input_params,
        prompt=checked.prompt,
        max_attempts=checked.model.max_attempts,
        idempotency_key=idempotency_key,
        request_hash=body_hash,
        request_id=context.request_id,
        traceparent=context.traceparent,
        available_at=func.now(),
        created_at=func.now(),
    )
    await keep_uploads(session, checked.uploads)
    session.add(job)
    await session.flush()
    session.add_all(
        Artifact(
            job_id=job.id,
            parameter=upload.parameter.name,
            kind=ArtifactKind.INPUT,
            name=upload.ticket.name,
            media_type=upload.media_type,
            size_bytes=upload.size_bytes,
            sha256=upload.ticket.sha256,
            etag=upload.etag,
            object_key=upload.ticket.object_key,
        )
        for upload in checked.uploads
    )
    await session.flush()
    await session.refresh(job)
    await record_event(session, job.id, "job.created", data={"model_id": job.model_id})
    await announce_waiting_job(session, job)
    return job, True
