"""Creating jobs: every check first, then one statement that writes (`app/jobs/creation.py`)."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.accounts.principal import Principal
from app.accounts.roles import Permission
from app.artifacts.errors import UploadExpiredError
from app.artifacts.uploads import CheckedUpload, check_upload, find_upload
from app.catalog.known import KnownModel, KnownModels
from app.catalog.parameters import check_prompt, complete_parameters, upload_parameters
from app.db.session import Database
from app.errors import AppError, ServiceUnavailableError
from app.jobs.creation import Draft, JobWriter
from app.jobs.errors import IdempotencyInFlightError, IdempotencyMismatchError, NoWorkerError
from app.jobs.repository import find_by_idempotency_key
from app.jobs.rows import JobRow
from app.jobs.schemas import JobIn
from app.jobs.tables import Job
from app.storage.base import ObjectStore

_TRIES = 3
"""A model that changes so often while one request is checked is being worked on."""


@dataclass(frozen=True)
class CheckedRequest:
    """A request that was found fit to become a job of a model as it is known."""

    known: KnownModel
    input_params: dict[str, Any]
    prompt: str | None
    uploads: Sequence[CheckedUpload]


@dataclass(frozen=True)
class RequestContext:
    """Where a request came from, kept on the job for its logs."""

    request_id: str
    traceparent: str


@dataclass(frozen=True)
class Submitted:
    """The job that a request has made, now or when it was first sent.

    `served` says whether a live worker serves the model; None of a replay.
    """

    job: Job | JobRow
    served: bool | None = None
    replayed: bool = False


class Submission:
    """Checks requests and makes jobs of them; one of each process.

    Args:
        database: for what is asked the usual way.
        store: holds the uploads.
        models: the catalog as it was last read.
        writer: writes the jobs.
    """

    def __init__(
        self, database: Database, store: ObjectStore, models: KnownModels, writer: JobWriter
    ) -> None:
        self._database = database
        self._store = store
        self._models = models
        self._writer = writer

    async def check(self, principal: Principal, request: JobIn) -> CheckedRequest:
        """Check a request as a whole, as things are now, without creating anything.

        Storage is asked outside any transaction, so that a slow store holds no connection.

        Raises:
            ForbiddenError: the role may not create jobs.
            ModelNotFoundError, InvalidParametersError, PromptError: the request does not fit.
            UploadNotFoundError, UploadMissingError, …: an upload it names cannot be used.
        """
        principal.require(Permission.CREATE_JOBS)
        return await self._check(principal, request, await self._models.read(request.model_id))

    async def submit(
        self,
        principal: Principal,
        request: JobIn,
        context: RequestContext,
        *,
        idempotency_key: str | None = None,
        require_worker: bool = False,
    ) -> Submitted:
        """Check a request and make a job of it; Redis is not touched.

        Raises:
            ForbiddenError, ModelNotFoundError, …: as `check` does.
            NoWorkerError: no live worker serves the model, and one is required.
            IdempotencyInFlightError: another request with this key is being handled.
            IdempotencyMismatchError: the key was used with another body.
        """
        body_hash = None
        if idempotency_key is not None:
            body_hash = _request_hash(request)
            # First, because a replay answers even if the upload has been deleted since.
            earlier = await self._find_replay(principal, idempotency_key, body_hash)
            if earlier is not None:
                return earlier
        principal.require(Permission.CREATE_JOBS)
        known = self._models.look_up(request.model_id)
        for _ in range(_TRIES):
            known = known or await self._models.read(request.model_id)
            try:
                checked = await self._check(principal, request, known)
            except AppError:
                # What is known may be old; refuse by what is there.
                revision, known = known.revision, await self._models.read(request.model_id)
                if known.revision == revision:
                    raise
                continue
            draft = Draft(
                checked.known,
                checked.input_params,
                checked.prompt,
                context.request_id,
                context.traceparent,
                uploads=checked.uploads,
                idempotency_key=idempotency_key,
                request_hash=body_hash,
                require_worker=require_worker,
            )
            row = await self._writer.write(principal, draft)
            if row["id"] is not None:
                return Submitted(row, served=row["served"])
            if row["current"]:
                return await self._why_not(principal, draft, row)
            known = None
        raise ServiceUnavailableError("The model is being changed. Try again in a moment.")

    async def _check(
        self, principal: Principal, request: JobIn, known: KnownModel
    ) -> CheckedRequest:
        model = known.model
        params = complete_parameters(model, request.input_params)
        prompt = check_prompt(model, request.prompt)
        wanted = [
            parameter
            for parameter in upload_parameters(model.parameters)
            if params.get(parameter.name) is not None
        ]
        uploads = []
        if wanted:
            async with self._database.transaction() as session:
                tickets = [
                    await find_upload(session, principal, parameter, params[parameter.name])
                    for parameter in wanted
                ]
            uploads = [
                await check_upload(self._store, ticket, parameter)
                for ticket, parameter in zip(tickets, wanted, strict=True)
            ]
        return CheckedRequest(known, params, prompt, uploads)

    async def _why_not(self, principal: Principal, draft: Draft, row: JobRow) -> Submitted:
        """The job that was there already, or else the error that kept a draft from being written.

        Raises:
            NoWorkerError, UploadExpiredError, IdempotencyInFlightError, IdempotencyMismatchError
        """
        if not row["free"]:
            raise IdempotencyInFlightError
        if draft.idempotency_key is not None and draft.request_hash is not None:
            earlier = await self._find_replay(principal, draft.idempotency_key, draft.request_hash)
            if earlier is not None:
                return earlier
        for upload in draft.uploads:
            if upload.ticket.id not in row["kept"]:
                raise upload.wrong(UploadExpiredError)
        raise NoWorkerError

    async def _find_replay(
        self, principal: Principal, key: str, body_hash: str
    ) -> Submitted | None:
        """The job that the same request with this idempotency key created before.

        Raises:
            IdempotencyMismatchError: the key was used with another body.
        """
        async with self._database.transaction() as session:
            job = await find_by_idempotency_key(session, principal.user_id, key)
            if job is None:
                return None
            if job.request_hash != body_hash:
                raise IdempotencyMismatchError
        return Submitted(job, replayed=True)


def _request_hash(request: JobIn) -> str:
    """The SHA-256 of a request's canonical JSON, to tell whether a repeat is the same."""
    canonical = json.dumps(request.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()
