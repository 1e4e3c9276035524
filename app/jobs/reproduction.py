"""What another job was made of, for a job that makes it again."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts.principal import Principal
from app.artifacts.service import find_result
from app.artifacts.tables import Artifact, UploadTicket
from app.artifacts.uploads import CheckedUpload
from app.catalog.parameters import complete_parameters, upload_parameters
from app.catalog.tables import Model
from app.jobs.errors import (
    InputGoneError,
    InputReplacedError,
    JobExpiredError,
    JobStateError,
    ModelVersionChangedError,
)
from app.jobs.lifecycle import JobStatus
from app.jobs.service import get_job
from app.jobs.tables import Job
from app.storage.base import ObjectStore
from contract.kinds import ArtifactKind

_SEED = "seed"
_LONGEST_MANIFEST = 1 << 20


@dataclass(frozen=True)
class Original:
    """A job that has succeeded, with the inputs it had and the manifest of its result."""

    job: Job
    inputs: Sequence[tuple[Artifact, UploadTicket | None]]
    manifest: Artifact | None


async def find_original(session: AsyncSession, principal: Principal, job_id: UUID) -> Original:
    """A job that is to be made again, by a principal who may create jobs.

    Raises:
        JobNotFoundError, ForbiddenError: it may not be read.
        JobExpiredError, JobStateError: it has no result any more, or none.
    """
    job = await get_job(session, principal, job_id)
    if job.status == JobStatus.EXPIRED:
        raise JobExpiredError("The job's files have been deleted: its retention is over.")
    if job.status != JobStatus.SUCCEEDED:
        raise JobStateError(
            f"Only a SUCCEEDED job can be reproduced; this one is {job.status}. "
            "A FAILED or CANCELLED one can be retried."
        )
    inputs = (
        await session.execute(
            select(Artifact, UploadTicket)
            .outerjoin(UploadTicket, UploadTicket.object_key == Artifact.object_key)
            .where(Artifact.job_id == job_id, Artifact.kind == ArtifactKind.INPUT)
        )
    ).all()
    _, manifest = await find_result(session, job_id)
    return Original(job, [(artifact, ticket) for artifact, ticket in inputs], manifest)


async def check_again(
    store: ObjectStore, original: Original, model: Model
) -> tuple[dict[str, Any], list[CheckedUpload]]:
    """The original's parameters and inputs, if the model and storage are as they were.

    Raises:
        ModelVersionChangedError: the catalog has another version of the model.
        InvalidParametersError: the model does not take these parameters any more.
        InputGoneError, InputReplacedError: an input is not there, or another one.
        StorageUnavailableError: storage cannot be asked.
    """
    job = original.job
    if model.version != job.model_version:
        raise ModelVersionChangedError(
            f"The job was made by version {job.model_version} of {model.id}; "
            f"the catalog has version {model.version}."
        )
    params = complete_parameters(model, await _with_drawn_seed(store, original, model))
    by_name = {parameter.name: parameter for parameter in upload_parameters(model.parameters)}
    uploads = []
    for artifact, ticket in original.inputs:
        found = None if ticket is None else await store.read_start(artifact.object_key, 1)
        if ticket is None or found is None:
            raise InputGoneError
        if (found.etag, found.size_bytes) != (artifact.etag, artifact.size_bytes):
            raise InputReplacedError
        uploads.append(
            CheckedUpload(
                ticket,
                by_name[artifact.parameter or ""],
                artifact.size_bytes,
                artifact.etag,
                artifact.media_type,
            )
        )
    return params, uploads


async def _with_drawn_seed(store: ObjectStore, original: Original, model: Model) -> dict[str, Any]:
    """The original's parameters; a seed that it left to chance is the one its manifest names."""
    params = original.job.input_params
    manifest = original.manifest
    takes_seed = _SEED in model.parameters.get("properties", {})
    if not takes_seed or params.get(_SEED) is not None or manifest is None:
        return params
    start = await store.read_start(manifest.object_key, _LONGEST_MANIFEST)
    try:
        seed = json.loads(start.head)[_SEED] if start else None
    except (ValueError, TypeError, KeyError, RecursionError):
        seed = None
    is_whole = isinstance(seed, int) and not isinstance(seed, bool)
    return {**params, _SEED: seed} if is_whole else params
