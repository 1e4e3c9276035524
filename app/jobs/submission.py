"""Creating jobs: every check first, then one statement that writes (`app/jobs/creation.py`)."""

import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from app.accounts.principal import Principal
from app.accounts.roles import Permission
from app.artifacts.errors import UploadExpiredError
from app.artifacts.uploads import CheckedUpload, check_upload, find_upload
from app.catalog.known import KnownModel, KnownModels
from app.catalog.parameters import check_prompt, complete_parameters, upload_parameters
from app.db.session import Database
from app.errors import AppError, ServiceUnavailableError
from app.jobs.cached_results import cache_key, use_again
from app.jobs.creation import Draft, JobWriter
from app.jobs.errors import IdempotencyInFlightError, IdempotencyMismatchError, NoWorkerError
from app.jobs.repository import find_by_idempotency_key
from app.jobs.reproduction import check_again, find_original
from app.jobs.rows import JobRow
from app.jobs.schemas import JobIn
from app.jobs.tables import Job
from app.notifications.urls import UrlPolicy
from app.storage.base import ObjectStore
from app.usage.service import UsageLimits

_TRIES = 3
"""A model that changes so often while one request is checked is being worked on."""


@dataclass(frozen=True)
class CheckedRequest:
    """A request that was found fit to become a job of a model as it is known."""

    known: KnownModel
    input_params: dict[str, Any]
    prompt: str | None
    uploads: Sequence[CheckedUpload]
    callback_url: str | None = None

    @property
    def uncounted_bytes(self) -> int:
        """Of uploads whose size nobody knew before they were looked at."""
        return sum(item.size_bytes for item in self.uploads if item.ticket.size_bytes is None)


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
        usage: what users may have.
        callbacks: which URLs may be told of events.
    """

    def __init__(
        self,
        database: Database,
        store: ObjectStore,
        models: KnownModels,
        writer: JobWriter,
        *,
        usage: UsageLimits,
        callbacks: UrlPolicy,
    ) -> None:
        self._database = database
        self._store = store
        self._models = models
        self._writer = writer
        self._usage = usage
        self._callbacks = callbacks

    async def check(self, principal: Principal, request: JobIn) -> CheckedRequest:
        """Check a request as a whole, as things are now, without creating anything.

        Storage is asked outside any transaction, so that a slow store holds no connection.

        Raises:
            ForbiddenError: the role may not create jobs.
            ModelNotFoundError, InvalidParametersError, PromptError: the request does not fit.
            DestinationError: its `callback_url` is not called from here.
            UploadNotFoundError, UploadMissingError, …: an upload it names cannot be used.
            QuotaExceededError: there is no room for one more.
        """
        principal.require(Permission.CREATE_JOBS)
        checked = await self._check(principal, request, await self._models.read(request.model_id))
        await self._usage.require_room_for_job(principal, checked.uncounted_bytes)
        return checked

    async def submit(
        self,
        principal: Principal,
        request: JobIn,
        context: RequestContext,
        *,
        idempotency_key: str | None = None,
        fingerprint: dict[str, Any] | None = None,
        require_worker: bool = False,
    ) -> Submitted:
        """Check a request and make a job of it; Redis is not touched.

        A repeat is known by its `fingerprint`, which is the request itself unless one is given.

        Raises:
            ForbiddenError, ModelNotFoundError, …: as `check` does.
            NoWorkerError: no live worker serves the model, and one is required.
            IdempotencyInFlightError: another request with this key is being handled.
            IdempotencyMismatchError: the key was used with another body.
        """
        origin = _Origin(
            context,
            require_worker,
            *_key_and_hash(idempotency_key, lambda: fingerprint or request.model_dump(mode="json")),
            may_cache=request.cache,
        )
        principal.require(Permission.CREATE_JOBS)
        # Before the checks, because a replay answers even if the upload has been deleted since.
        earlier = await self._find_replay(principal, origin)
        if earlier is not None:
            return earlier
        return await self._create(
            principal,
            request.model_id,
            lambda known: self._check(principal, request, known),
            origin,
        )

    async def reproduce(
        self,
        principal: Principal,
        job_id: UUID,
        context: RequestContext,
        *,
        idempotency_key: str | None = None,
        require_worker: bool = False,
    ) -> Submitted:
        """Make a job that makes again what another one has made, of the same input.

        Raises:
            ForbiddenError, JobNotFoundError: the caller may not create, or not read the other one.
            JobStateError, JobExpiredError: it has no result, or not any more.
            ModelNotFoundError, ModelVersionChangedError: its model is not there as it was.
            InputGoneError, InputReplacedError: an input of it is not.
            NoWorkerError, IdempotencyInFlightError, IdempotencyMismatchError: as `submit` does.
        """
        origin = _Origin(
            context,
            require_worker,
            *_key_and_hash(idempotency_key, lambda: {"reproduces": str(job_id)}),
            reproduces=job_id,
        )
        principal.require(Permission.CREATE_JOBS)
        earlier = await self._find_replay(principal, origin)
        if earlier is not None:
            return earlier
        async with self._database.transaction() as session:
            original = await find_original(session, principal, job_id)

        async def check(known: KnownModel) -> CheckedRequest:
            params, uploads = await check_again(self._store, original, known.model)
            return CheckedRequest(known, params, original.job.prompt, uploads)

        return await self._create(principal, original.job.model_id, check, origin)

    async def _create(
        self,
        principal: Principal,
        model_id: str,
        check: Callable[[KnownModel], Awaitable[CheckedRequest]],
        origin: "_Origin",
    ) -> Submitted:
        """Check what is asked for against the model, and write it if the model is still so."""
        # An earlier result is taken by what is read now: no statement checks it again.
        known = None if origin.may_cache else self._models.look_up(model_id)
        for _ in range(_TRIES):
            known = known or await self._models.read(model_id)
            try:
                checked = await check(known)
            except AppError:
                # What is known may be old; refuse by what is there.
                revision, known = known.revision, await self._models.read(model_id)
                if known.revision == revision:
                    raise
                continue
            draft = Draft(
                checked.known,
                checked.input_params,
                checked.prompt,
                origin.context.request_id,
                origin.context.traceparent,
                uploads=checked.uploads,
                reproduces=origin.reproduces,
                callback_url=checked.callback_url,
                idempotency_key=origin.idempotency_key,
                request_hash=origin.request_hash,
                require_worker=origin.require_worker,
            )
            if origin.may_cache:
                draft = await self._with_cache_key(checked, draft)
                cached = await use_again(self._database, principal, draft)
                if cached is not None:
                    return Submitted(cached)
            await self._usage.require_room_for_job(
                principal, checked.uncounted_bytes, may_be_known=True
            )
            row = await self._writer.write(principal, draft)
            if row["id"] is not None:
                return Submitted(row, served=row["served"])
            if row["current"]:
                return await self._why_not(principal, origin, draft, row)
            known = None
        raise ServiceUnavailableError("The model is being changed. Try again in a moment.")

    async def _with_cache_key(self, checked: CheckedRequest, draft: Draft) -> Draft:
        key = await cache_key(
            self._store,
            checked.known,
            checked.input_params,
            checked.prompt,
            checked.uploads,
        )
        return replace(draft, cache_key=key)

    async def _check(
        self, principal: Principal, request: JobIn, known: KnownModel
    ) -> CheckedRequest:
        model = known.model
        params = complete_parameters(model, request.input_params)
        prompt = check_prompt(model, request.prompt)
        callback_url = None
        if request.callback_url is not None:
            callback_url = str(self._callbacks.check(request.callback_url, pointer="/callback_url"))
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
        return CheckedRequest(known, params, prompt, uploads, callback_url)

    async def _why_not(
        self, principal: Principal, origin: "_Origin", draft: Draft, row: JobRow
    ) -> Submitted:
        """The job that was there already, or else the error that kept a draft from being written.

        Raises:
            NoWorkerError, UploadExpiredError, IdempotencyInFlightError, IdempotencyMismatchError,
            QuotaExceededError
        """
        if not row["free"]:
            raise IdempotencyInFlightError
        earlier = await self._find_replay(principal, origin)
        if earlier is not None:
            return earlier
        for upload in draft.uploads:
            if upload.ticket.id not in row["kept"]:
                raise upload.wrong(UploadExpiredError)
        if row["has_room"] is False:
            raise await self._usage.queue_is_full(principal)
        raise NoWorkerError

    async def _find_replay(self, principal: Principal, origin: "_Origin") -> Submitted | None:
        """The job that the same request with its idempotency key created before.

        Raises:
            IdempotencyMismatchError: the key was used with another body.
        """
        key = origin.idempotency_key
        if key is None:
            return None
        async with self._database.transaction() as session:
            job = await find_by_idempotency_key(session, principal.user_id, key)
            if job is None:
                return None
            if job.request_hash != origin.request_hash:
                raise IdempotencyMismatchError
        return Submitted(job, replayed=True)


@dataclass(frozen=True)
class _Origin:
    """What a job keeps of the request that made it, beside what it is to make."""

    context: RequestContext
    require_worker: bool
    idempotency_key: str | None
    request_hash: str | None
    reproduces: UUID | None = None
    may_cache: bool = False


def _key_and_hash(
    key: str | None, request: Callable[[], dict[str, Any]]
) -> tuple[str | None, str | None]:
    """The idempotency key and, with one, the SHA-256 of the request's canonical JSON.

    By that a repeat is known to be the same.
    """
    if key is None:
        return None, None
    canonical = json.dumps(request(), sort_keys=True, separators=(",", ":"))
    return key, hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()
