"""The read path of polling: one statement by asyncpg, past the ORM and the framework.

`GET /jobs/{id}` is what clients do all day, and the usual way costs several times what the database
does (docs/performance.md). Everything else about jobs goes through SQLAlchemy.
"""

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg

from app.accounts.principal import Principal
from app.config import Settings
from app.db.pool import plain_pool
from app.db.session import Database
from app.jobs import service
from app.jobs.estimates import median_run_seconds, remaining_seconds
from app.jobs.lifecycle import JobStatus
from app.jobs.rows import JOB_COLUMNS, JobRow
from app.jobs.schemas import JobOut, PreviewOut
from app.jobs.views import present_job
from app.storage.base import ObjectStore
from app.web.conditional import etag_of

_STATEMENTS = 2
_MEDIAN_SECONDS = 2.0
_KEPT_ANSWERS = 4096
_KEPT_BYTES = 8192

# The previews in the same statement, so that they are those of the attempt that the row names.
_LOOK = f"""
SELECT {JOB_COLUMNS},
    CASE WHEN status NOT IN ('QUEUED', 'EXPIRED') THEN (
        SELECT json_agg(json_build_array(name, media_type, object_key) ORDER BY a.id)::text
        FROM artifacts a
        WHERE a.job_id = j.id AND a.kind = 'preview'
          AND (a.attempt_id IS NULL OR a.attempt_id = j.current_attempt_id)
    ) END AS previews
FROM jobs j WHERE id = ANY($1)
"""  # noqa: S608  (only names of columns are put in)


@dataclass(frozen=True, slots=True)
class Look:
    """A job as it was at one moment: the answer's body, its entity tag and the status in it."""

    body: bytes
    etag: str
    status: str


@dataclass(frozen=True, slots=True)
class _Kept:
    """An answer, and all that it was made from."""

    row: JobRow
    urls: list[str]
    eta_seconds: float | None
    look: Look


class _Rows:
    """Reads rows, those that are asked for at the same time in one statement.

    Whoever asks while statements are under way shares the next one, so that each row is read after
    it was asked for; with nothing under way there is no wait.
    """

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._wanted: dict[UUID, asyncio.Future[JobRow | None]] = {}
        self._reading: set[asyncio.Task[None]] = set()

    async def read(self, job_id: UUID) -> JobRow | None:
        """The job's row as it is now, None if there is none.

        Raises:
            asyncpg.PostgresError, asyncpg.InterfaceError, OSError: it cannot be read.
        """
        future = self._wanted.get(job_id)
        if future is None:
            future = self._wanted[job_id] = asyncio.get_running_loop().create_future()
            if len(self._reading) < _STATEMENTS:
                task = asyncio.create_task(self._read_all())
                self._reading.add(task)
                task.add_done_callback(self._reading.discard)
        # Shared: one who gives up must not take the row from the others.
        return await asyncio.shield(future)

    async def _read_all(self) -> None:
        while self._wanted:
            wanted, self._wanted = self._wanted, {}
            try:
                rows = await self._pool.fetch(_LOOK, list(wanted))
            except Exception as error:  # noqa: BLE001  (those who asked decide what to do)
                for future in wanted.values():
                    future.set_exception(error)
                    future.exception()  # perhaps nobody waits any more
            else:
                found = {row["id"]: row for row in rows}
                for job_id, future in wanted.items():
                    future.set_result(found.get(job_id))


class JobReader:
    """Reads jobs for those who poll; one of each process.

    The row is read every time. An answer is kept only to be used again while the row, the URLs and
    the estimate that it was made from are the same.

    Args:
        dsn: a `postgresql://` URL, as asyncpg takes it.
        database: for what is asked the usual way.
        store: signs the URLs of previews.
        settings: how long URLs work, and workers live.
    """

    def __init__(
        self, dsn: str, database: Database, store: ObjectStore, settings: Settings
    ) -> None:
        self._database = database
        self._store = store
        self._settings = settings
        self._medians: dict[str, tuple[float, float | None]] = {}
        self._answers: dict[UUID, _Kept] = {}
        self._pool = plain_pool(dsn, size=_STATEMENTS, record_class=JobRow)
        self._rows = _Rows(self._pool)

    async def start(self) -> None:
        """Get ready; the database may still be away."""
        await self._pool

    async def close(self) -> None:
        """Close every connection, at once if somebody holds on to one."""
        self._pool.terminate()

    def forget_all(self) -> None:
        """Ask the database again for everything."""
        self._medians.clear()
        self._answers.clear()

    async def look(self, principal: Principal, job_id: UUID) -> Look:
        """A job that the principal may read, as `app.jobs.views.present_job` shows it.

        Raises:
            JobNotFoundError, ForbiddenError
        """
        try:
            row = await self._rows.read(job_id)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            # The usual way tries its connections before it uses them, and knows how to say sorry.
            return await self._look_the_usual_way(principal, job_id)
        service.require_readable(principal, row)
        assert row is not None
        if row["status"] == JobStatus.QUEUED:
            return await self._look_the_usual_way(principal, job_id)
        previews = self._previews(row)
        eta_seconds = await self._eta_seconds(row)
        urls = [preview.url for preview in previews]
        kept = self._answers.get(job_id)
        if kept and kept.row == row and kept.urls == urls and kept.eta_seconds == eta_seconds:
            return kept.look
        body = JobOut.of(row, previews=previews, eta_seconds=eta_seconds).model_dump_json().encode()
        look = Look(body, etag_of(body), row["status"])
        if len(body) <= _KEPT_BYTES:
            if len(self._answers) >= _KEPT_ANSWERS:
                self._answers.clear()
            self._answers[job_id] = _Kept(row, urls, eta_seconds, look)
        return look

    async def _look_the_usual_way(self, principal: Principal, job_id: UUID) -> Look:
        async with self._database.transaction() as session:
            job = await service.get_job(session, principal, job_id)
            view = await present_job(session, self._store, self._settings, job)
        body = view.model_dump_json().encode()
        return Look(body, etag_of(body), view.status)

    def _previews(self, row: JobRow) -> list[PreviewOut]:
        if row["previews"] is None:
            return []
        seconds = self._settings.download_url_seconds
        return [
            PreviewOut(
                name=name,
                media_type=media_type,
                url=self._store.presign_get(key, seconds, media_type=media_type),
            )
            for name, media_type, key in json.loads(row["previews"])
        ]

    async def _eta_seconds(self, row: JobRow) -> float | None:
        if row["status"] != JobStatus.RUNNING:
            return None
        model_id = row["model_id"]
        known = self._medians.get(model_id)
        if known is None or known[0] < time.monotonic():
            async with self._database.transaction() as session:
                median = await median_run_seconds(session, model_id)
            known = (time.monotonic() + _MEDIAN_SECONDS, median)
            self._medians[model_id] = known
        return remaining_seconds(known[1], row["progress_percent"])


def answer_headers(look: Look) -> dict[str, str]:
    """The headers of an answer, with a body or without."""
    return {"ETag": look.etag, "Cache-Control": "private, no-cache"}
