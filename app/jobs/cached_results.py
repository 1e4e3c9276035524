"""Results that are used again: the same model, parameters and input give the earlier files at once.

Only where the request asks for it (`"cache": true`), only among jobs that asked for it as well, and
only within one organisation.
"""

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts.principal import Principal
from app.accounts.tables import Organisation
from app.artifacts.errors import UploadExpiredError
from app.artifacts.service import visible_artifacts
from app.artifacts.tables import Artifact, UploadTicket
from app.artifacts.uploads import CheckedUpload
from app.catalog.known import KnownModel
from app.db.base import new_id
from app.db.session import Database
from app.jobs.creation import Draft
from app.jobs.lifecycle import JobStatus
from app.jobs.repository import record_event
from app.jobs.tables import Job
from app.storage.base import ObjectStore
from contract.kinds import ArtifactKind

_WHAT = ("kind", "name", "media_type", "size_bytes", "sha256", "etag", "object_key")
"""Columns of an artifact that say which file it is."""


async def cache_key(
    store: ObjectStore,
    known: KnownModel,
    params: dict[str, Any],
    prompt: str | None,
    uploads: Sequence[CheckedUpload],
) -> str:
    """What two requests have in common that would make the same: a SHA-256.

    It stands for the model and its version, the completed parameters, with the content of each
    uploaded file in the place of its name, and the prompt.

    Raises:
        StorageUnavailableError: a file has to be read, and cannot be.
    """
    contents = {
        upload.parameter.name: upload.ticket.sha256 or await store.sha256(upload.ticket.object_key)
        for upload in uploads
    }
    meant = [known.model.id, known.model.version, {**params, **contents}, prompt]
    canonical = json.dumps(meant, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()


async def use_again(database: Database, principal: Principal, draft: Draft) -> Job | None:
    """A job that has ended before it began, with the files of an earlier one, if there is one.

    Its row says which (`cached_from`). The files belong to both jobs, and stay until both expire.

    Returns:
        The job, or None if nothing can be used again, or the idempotency key is used already.

    Raises:
        UploadExpiredError: an input is not kept any more.
    """
    async with database.transaction() as session:
        # Retention waits for this lock, and then finds that the files are still needed.
        original = (
            await session.execute(
                select(Job)
                .where(
                    Job.organisation_id == principal.organisation_id,
                    Job.cache_key == draft.cache_key,
                    Job.status == JobStatus.SUCCEEDED,
                    Job.expires_at > datetime.now(UTC),
                )
                .order_by(Job.completed_at.desc())
                .limit(1)
                .with_for_update(read=True)
            )
        ).scalar_one_or_none()
        if original is None:
            return None
        made = {
            artifact.id: _copy(artifact, draft)
            for artifact in await visible_artifacts(session, original)
            if artifact.kind != ArtifactKind.INPUT
        }
        main = made.get(original.main_artifact_id) if original.main_artifact_id else None
        if main is None:
            return None
        job = await _write(session, principal, draft, original, main)
        if job is None:
            return None
        await _keep_inputs(session, draft)
        session.add_all(made.values())
        await session.flush()
        source = {"cached_from": str(job.cached_from)}
        begun = {"model_id": job.model_id, **source}
        await record_event(session, job.id, "job.created", data=begun)
        ended = {"status": job.status, "artifacts": len(made), **source}
        await record_event(session, job.id, "job.succeeded", data=ended)
        return job


async def _write(
    session: AsyncSession, principal: Principal, draft: Draft, original: Job, main: Artifact
) -> Job | None:
    """The row of a job that begins SUCCEEDED; None if its idempotency key is used already."""
    model = draft.known.model
    organisation = await session.get_one(Organisation, principal.organisation_id)
    now = datetime.now(UTC)
    statement = insert(Job).values(
        id=draft.job_id,
        organisation_id=principal.organisation_id,
        user_id=principal.user_id,
        model_id=model.id,
        model_version=model.version,
        queue=model.queue,
        status=JobStatus.SUCCEEDED,
        input_params=draft.input_params,
        prompt=draft.prompt,
        callback_url=draft.callback_url,
        max_attempts=model.max_attempts,
        main_artifact_id=main.id,
        progress_percent=100,
        stage="finished",
        idempotency_key=draft.idempotency_key,
        request_hash=draft.request_hash,
        request_id=draft.request_id,
        traceparent=draft.traceparent,
        cache_key=draft.cache_key,
        cached_from=original.cached_from or original.id,
        started_at=now,
        completed_at=now,
        expires_at=now + timedelta(days=organisation.retention_days or model.retention_days),
    )
    return (
        await session.execute(statement.on_conflict_do_nothing().returning(Job))
    ).scalar_one_or_none()


def _copy(artifact: Artifact, draft: Draft) -> Artifact:
    """The same file as a result of another job, which no attempt has made."""
    same = {name: getattr(artifact, name) for name in _WHAT}
    return Artifact(id=new_id(), job_id=draft.job_id, **same)


async def _keep_inputs(session: AsyncSession, draft: Draft) -> None:
    for upload in draft.uploads:
        ticket = upload.ticket
        kept = await session.execute(
            update(UploadTicket)
            .where(
                UploadTicket.id == ticket.id,
                UploadTicket.keep_until.is_(None) | (UploadTicket.keep_until > datetime.now(UTC)),
            )
            .values(
                keep_until=None,
                size_bytes=func.coalesce(UploadTicket.size_bytes, upload.size_bytes),
            )
            .returning(UploadTicket.id)
        )
        if kept.scalar_one_or_none() is None:
            raise upload.wrong(UploadExpiredError)
        session.add(
            Artifact(
                id=new_id(),
                job_id=draft.job_id,
                parameter=upload.parameter.name,
                kind=ArtifactKind.INPUT,
                name=ticket.name,
                media_type=upload.media_type,
                size_bytes=upload.size_bytes,
                sha256=ticket.sha256,
                etag=upload.etag,
                object_key=ticket.object_key,
            )
        )
