"""What a run hands over: single files while it runs, and the rest with its report.

Each call is a few short transactions with storage asked in between; the fence is checked in all of
them, so that whatever a worker does too late changes nothing.
"""

import asyncio
import hashlib
from collections.abc import Coroutine
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Row

from app.artifacts.commits import CheckedObject, check_object, commit_objects, find_tickets
from app.artifacts.errors import TicketNotFoundError
from app.artifacts.tables import Artifact
from app.artifacts.tickets import create_artifact_ticket
from app.config import Settings
from app.db.session import Database
from app.errors import AppError
from app.jobs.attempts import AttemptService
from app.jobs.fence import RunningAttempt, find_running, require_running
from app.jobs.success import succeed
from app.logs import get_logger
from app.storage.base import ObjectStore, StorageUnavailableError
from contract.artifacts import ArtifactRecord, UploadTicketRequest
from contract.attempts import AttemptSucceeded, FinishReply, FinishRequest
from contract.kinds import ArtifactKind

log = get_logger(__name__)

T = TypeVar("T")

RUN_LOG = "run.log"
_CHECKS_AT_ONCE = 8


async def commit_artifact(
    database: Database,
    store: ObjectStore,
    settings: Settings,
    *,
    attempt_id: UUID,
    token: str,
    ticket_id: UUID,
) -> Artifact:
    """Check an uploaded object and make it visible; the same commit again answers the same.

    Raises:
        TicketNotFoundError: this attempt has no such ticket.
        ArtifactNotUploadedError: the object is not in storage.
        ArtifactMismatchError: its size, SHA-256 or first bytes are not what was promised.
        AttemptSupersededError, AttemptGoneError, AttemptTokenError: not this worker's any more.
    """
    async with database.statements() as connection:
        await require_running(connection, settings, attempt_id, token)
        tickets = await find_tickets(connection, attempt_id, [ticket_id])
    if not tickets:
        raise TicketNotFoundError
    return await commit_checked(
        database, settings, attempt_id, token, await _check(store, tickets), ticket_id
    )


async def commit_checked(  # noqa: PLR0917
    database: Database,
    settings: Settings,
    attempt_id: UUID,
    token: str,
    objects: list[CheckedObject],
    ticket_id: UUID,
) -> Artifact:
    """Make what was checked visible; the artifact of a ticket, which may have been one before.

    Raises:
        TicketNotFoundError: the ticket is another one by now.
        AttemptSupersededError, AttemptGoneError, AttemptTokenError: not this worker's any more.
    """
    async with database.transaction() as session:
        job, _ = await AttemptService(session, settings).lock_running(attempt_id, token)
        await commit_objects(session, job.id, attempt_id, objects)
        return await session.get_one(Artifact, ticket_id)


def artifact_record(artifact: Artifact) -> ArtifactRecord:
    """An artifact as its worker is told of it."""
    return ArtifactRecord(
        artifact_id=artifact.id,
        kind=ArtifactKind(artifact.kind),
        name=artifact.name,
        size_bytes=artifact.size_bytes,
        sha256=artifact.sha256 or "",
    )


async def finish_attempt(
    database: Database,
    store: ObjectStore,
    settings: Settings,
    *,
    attempt_id: UUID,
    token: str,
    report: FinishRequest,
) -> FinishReply:
    """Commit what came with a report and was not committed yet, and end the attempt with it.

    Raises:
        TicketNotFoundError, ArtifactNotUploadedError, ArtifactMismatchError: a file that the
            report names is not there, or is not what was promised; nothing has changed.
        AttemptNotFoundError, AttemptTokenError, AttemptSupersededError, AttemptGoneError,
        ReportConflictError, ResultIncompleteError: as `AttemptService.finish`.
    """
    stored: list[CheckedObject] = []
    async with database.statements() as connection:
        # A report that came before, or too late, is answered by `AttemptService.finish`.
        running = await find_running(connection, settings, attempt_id, token)
    if isinstance(running, RunningAttempt):
        named = report.artifact_ids if isinstance(report, AttemptSucceeded) else []
        checked, written = await _all(
            _check_named(database, store, running, named),
            _keep_log(database, store, settings, running, report.log),
        )
        stored = [*checked, *written]
        if isinstance(report, AttemptSucceeded):
            reply = await succeed(database, running, report, stored)
            if reply is not None:
                return reply
    async with database.transaction() as session:
        return await AttemptService(session, settings).finish(attempt_id, token, report, stored)


async def _keep_log(
    database: Database,
    store: ObjectStore,
    settings: Settings,
    attempt: RunningAttempt,
    content: str | None,
) -> list[CheckedObject]:
    """Put a run's log into storage, if it may have one and storage answers.

    How the run ended matters more, so a failure is only logged.
    """
    if not content:
        return []
    body = content.encode("utf-8", "replace")
    request = UploadTicketRequest(
        kind=ArtifactKind.LOG,
        name=RUN_LOG,
        media_type="text/plain",
        size_bytes=len(body),
        sha256=hashlib.sha256(body).hexdigest(),
    )
    try:
        async with database.statements() as connection:
            ticket = await create_artifact_ticket(connection, settings, attempt, request)
    except AppError as error:
        log.warning("a run's log cannot be kept", reason=error.detail)
        return []
    try:
        etag = await store.write(ticket.object_key, body, ticket.media_type)
    except StorageUnavailableError as error:
        log.warning("a run's log could not be stored", error=str(error))
        return []
    return [CheckedObject.of(ticket, etag)]


async def _check_named(
    database: Database, store: ObjectStore, attempt: RunningAttempt, named: list[UUID]
) -> list[CheckedObject]:
    """Check the files that a report names, but for those that are committed already."""
    if not named:
        return []
    async with database.statements() as connection:
        tickets = await find_tickets(connection, attempt.id, named)
    return await _check(store, tickets)


async def _check(store: ObjectStore, tickets: list[Row[Any]]) -> list[CheckedObject]:
    """Check the objects of those that are not committed yet, some at once."""
    gate = asyncio.Semaphore(_CHECKS_AT_ONCE)

    async def check(ticket: Row[Any]) -> CheckedObject:
        async with gate:
            return await check_object(store, ticket)

    waiting = [ticket for ticket in tickets if not ticket.committed]
    return await _all(*map(check, waiting))


async def _all(*works: Coroutine[Any, Any, T]) -> list[T]:
    """What all of these come to; the first failure ends the others, too."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
