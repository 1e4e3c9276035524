"""Videos on their way from a form into storage: looked at by their first bytes, measured, hashed.

A file has its ticket before its first byte is stored, so whatever becomes of this process,
retention knows what to delete. What no job has taken at the end is deleted here at once.
"""

import hashlib
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from app.accounts.principal import Principal
from app.artifacts.errors import UploadTooLargeError, UploadTypeError
from app.artifacts.uploads import accepted_type, create_upload_ticket, drop_uploads
from app.catalog.errors import InvalidParametersError
from app.catalog.parameters import UploadParameter
from app.catalog.service import get_model
from app.catalog.tables import Model
from app.config import Settings
from app.db.session import Database
from app.errors import AppError
from app.logs import get_logger
from app.storage.base import ObjectStore, StorageUnavailableError
from app.storage.writing import write_stream
from app.usage.service import UsageLimits
from app.videos.errors import NoVideoError
from app.videos.form import Form, Part
from app.videos.models import video_parameter
from app.videos.parameters import value_of
from contract.containers import ENOUGH_BYTES

log = get_logger(__name__)

DEFAULT_MODEL = "video-frames-v1"
MODEL_FIELD = "model_id"
MAX_VIDEOS = 20


@dataclass
class StoredVideo:
    """One file of the form, in storage."""

    filename: str
    ticket_id: UUID
    object_name: str
    hasher: Any = field(default_factory=hashlib.sha256)
    size_bytes: int = 0
    taken: bool = False
    """Whether a job refers to it now."""


class Intake:
    """Reads one form.

    Args:
        database, store, settings, usage: of the process.
        principal: whose videos these are.
    """

    def __init__(
        self,
        database: Database,
        store: ObjectStore,
        settings: Settings,
        usage: UsageLimits,
        principal: Principal,
    ) -> None:
        self._database = database
        self._store = store
        self._settings = settings
        self._usage = usage
        self._principal = principal
        self._model: Model | None = None
        self._texts: defaultdict[str, list[str]] = defaultdict(list)
        self.videos: list[StoredVideo] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Delete what no job has taken; what cannot be deleted now is retention's."""
        left = [video for video in self.videos if not video.taken]
        if not left:
            return
        try:
            remaining = set(await self._store.delete([video.object_name for video in left]))
            gone = [video.ticket_id for video in left if video.object_name not in remaining]
            async with self._database.transaction() as session:
                await drop_uploads(session, gone)
        except (StorageUnavailableError, SQLAlchemyError, OSError) as problem:
            log.warning("uploads are left to retention", uploads=len(left), error=str(problem))

    @property
    def model(self) -> Model:
        """What the form asks for; the model for frames, if it says nothing."""
        assert self._model is not None, "the form has been read"
        return self._model

    @property
    def parameter(self) -> UploadParameter:
        """The parameter of the model that names the video."""
        parameter = video_parameter(self.model)
        assert parameter is not None, "checked when the model was chosen"
        return parameter

    async def read(self, form: Form) -> None:
        """Store the files of a form and keep its fields.

        Raises:
            InvalidFormError, UploadInterruptedError: the form is damaged, or stops coming.
            NoVideoError: it has no file.
            ModelNotFoundError, InvalidParametersError: there is no such model for videos.
            UploadTypeError, UploadTooLargeError: a file is not what the model takes.
        """
        async for part in form.parts():
            if part.filename is None:
                await self._take_field(part)
            elif part.filename:
                await self._take_video(part, part.filename)
        if not self.videos:
            raise NoVideoError

    def input_params(self, video: StoredVideo) -> dict[str, Any]:
        """The parameters of the job for one of the videos."""
        properties = self.model.parameters.get("properties", {})
        given = {name: value_of(properties.get(name), texts) for name, texts in self._texts.items()}
        return {**given, self.parameter.name: video.object_name}

    def fingerprint(self, video: StoredVideo) -> dict[str, Any]:
        """What a repeat of the same request is known by, although its file is stored anew."""
        return {
            "model_id": self.model.id,
            "fields": dict(self._texts),
            "filename": video.filename,
            "sha256": video.hasher.hexdigest(),
        }

    async def _take_field(self, part: Part) -> None:
        text = await part.text()
        if part.name != MODEL_FIELD:
            self._texts[part.name].append(text)
        elif self._model is None:
            await self._choose(text)
        elif text != self._model.id:
            raise _wrong(
                InvalidParametersError, f"/{MODEL_FIELD}", "must stand once, and before the files"
            )

    async def _choose(self, model_id: str) -> None:
        async with self._database.transaction() as session:
            model = await get_model(session, model_id)
        if video_parameter(model) is None:
            raise _wrong(
                InvalidParametersError, f"/{MODEL_FIELD}", f"must take a video; {model.id} does not"
            )
        self._model = model

    async def _take_video(self, part: Part, filename: str) -> None:
        if len(self.videos) >= MAX_VIDEOS:
            raise UploadTooLargeError(f"A form can bring at most {MAX_VIDEOS} videos.")
        if self._model is None:
            await self._choose(DEFAULT_MODEL)
        pointer = f"/files/{len(self.videos)}"
        try:
            await self._store_video(part, filename)
        except (UploadTypeError, UploadTooLargeError) as error:
            raise _wrong(type(error), pointer, f"{filename[:100]}: {error.detail}") from None

    async def _store_video(self, part: Part, filename: str) -> None:
        head = bytearray()
        async for chunk in part.content:
            head += chunk
            if len(head) >= ENOUGH_BYTES:
                break
        if not head:
            raise UploadTypeError("The file is empty.")
        media_type = accepted_type(self.parameter, bytes(head))
        async with self._database.transaction() as session:
            ticket = await create_upload_ticket(
                session,
                self._principal,
                self._settings,
                self._usage,
                filename=filename,
                content_type=media_type,
                size_bytes=None,
                sha256=None,
                streamed=True,
            )
        video = StoredVideo(filename, ticket.id, ticket.object_key)
        self.videos.append(video)
        content = self._measured(video, bytes(head), part.content)
        await write_stream(self._store, ticket.object_key, content, media_type)

    async def _measured(
        self, video: StoredVideo, head: bytes, rest: AsyncIterator[bytes]
    ) -> AsyncIterator[bytes]:
        most = min(self.parameter.max_bytes, self._settings.max_upload_bytes)

        def measure(chunk: bytes) -> bytes:
            video.hasher.update(chunk)
            video.size_bytes += len(chunk)
            if video.size_bytes > most:
                raise UploadTooLargeError(
                    f"The file has more than {most} bytes, which is all that is accepted."
                )
            return chunk

        yield measure(head)
        async for chunk in rest:
            yield measure(chunk)


def _wrong(error: type[AppError], pointer: str, detail: str) -> AppError:
    return error(f"{pointer}: {detail}", errors=[{"pointer": pointer, "detail": detail}])
