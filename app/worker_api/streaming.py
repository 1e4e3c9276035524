"""A file that is uploaded while it grows: begun, its parts, completed.

As in `delivery`, each call is a few short transactions with storage asked in between, and the
fence is checked in all of them.
"""

from uuid import UUID

from app.artifacts.commits import CheckedObject, check_object
from app.artifacts.streams import (
    create_stream_ticket,
    find_stream,
    most_parts,
    note_upload,
    promise_content,
)
from app.artifacts.tables import Artifact
from app.artifacts.tickets import ARTIFACT_TICKET_LIFE
from app.config import Settings
from app.db.session import Database
from app.jobs.fence import require_running
from app.storage.base import ObjectStore
from app.worker_api.delivery import commit_checked
from contract.streams import (
    StreamCompletion,
    StreamParts,
    StreamPartsRequest,
    StreamRequest,
    StreamTicket,
)


class Streams:
    """The streamed files of one attempt.

    All methods raise AttemptNotFoundError, AttemptTokenError, AttemptSupersededError and
    AttemptGoneError: not this worker's, or not any more.

    Args:
        database: where tickets are.
        store: where files are.
        settings: limits.
        attempt_id: whose files.
        token: proves that the caller runs it.
    """

    def __init__(
        self,
        database: Database,
        store: ObjectStore,
        settings: Settings,
        *,
        attempt_id: UUID,
        token: str,
    ) -> None:
        self._database = database
        self._store = store
        self._settings = settings
        self._attempt_id = attempt_id
        self._token = token

    async def begin(self, request: StreamRequest) -> StreamTicket:
        """Begin a file, or begin it anew: what was uploaded of it before is dropped.

        Raises:
            ArtifactMismatchError: nothing of this kind is of this media type.
            ArtifactCommittedError: an artifact of this name is committed.
            UploadTooLargeError: more files than a run may make.
        """
        async with self._database.statements() as connection:
            attempt = await require_running(
                connection, self._settings, self._attempt_id, self._token
            )
            ticket = await create_stream_ticket(connection, attempt, request)
        await self._store.abort_multiparts(ticket.object_key)
        upload_id = await self._store.begin_multipart(ticket.object_key, ticket.media_type)
        async with self._database.statements() as connection:
            await note_upload(connection, ticket.id, upload_id)
        return StreamTicket(ticket_id=ticket.id)

    async def parts(self, asked: StreamPartsRequest) -> StreamParts:
        """Where some parts go.

        Raises:
            TicketNotFoundError: the attempt has no such upload under way.
            UploadTooLargeError: so many parts are more bytes than a file may have.
        """
        async with self._database.statements() as connection:
            await require_running(connection, self._settings, self._attempt_id, self._token)
            ticket = await find_stream(connection, self._settings, self._attempt_id, asked)
        last = min(asked.first + asked.count - 1, most_parts(self._settings))
        seconds = int(ARTIFACT_TICKET_LIFE.total_seconds())
        return StreamParts(
            upload_urls=[
                self._store.presign_part(ticket.object_key, ticket.upload_id, number, seconds)
                for number in range(asked.first, last + 1)
            ],
            expires_at=ticket.expires_at,
        )

    async def complete(self, completion: StreamCompletion) -> Artifact:
        """Have the parts put together, check the file and show it.

        Raises:
            TicketNotFoundError: the attempt has no such streamed file.
            ArtifactNotUploadedError: storage does not have all these parts.
            ArtifactMismatchError: size, SHA-256 or first bytes are not what was promised.
            ArtifactCommittedError: it is committed with other content.
            UploadTooLargeError: it has more bytes than a file may have.
        """
        async with self._database.statements() as connection:
            await require_running(connection, self._settings, self._attempt_id, self._token)
            ticket = await promise_content(connection, self._settings, self._attempt_id, completion)
        objects: list[CheckedObject] = []
        if ticket.keep_until is not None:
            # If they can't be, they may have been before, and the answer was lost.
            if ticket.upload_id is not None:
                await self._store.complete_multipart(
                    ticket.object_key, ticket.upload_id, completion.etags
                )
            objects = [await check_object(self._store, ticket)]
        return await commit_checked(
            self._database, self._settings, self._attempt_id, self._token, objects, ticket.id
        )
