"""The read path of polling: one statement by asyncpg, past the ORM and the framework.

`GET /jobs/{id}` is what clients do all day, and the usual way costs several times what the database
does (docs/performance.md). Everything else about jobs goes through SQLAlchemy.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from app.accounts.principal import Principal
from app.config import Settings
from app.db.pool import PlainPool
from app.db.session import Database
from app.db.shared_reads import SharedReads
from app.jobs import service
from app.jobs.estimates import Estimate, Figures, Place, count_ahead, find_figures
from app.jobs.lifecycle import JobStatus
from app.jobs.rows import JOB_COLUMNS, JobRow
from app.jobs.schemas import JobOut, PreviewOut
from app.jobs.views import no_worker_warning
from app.logs import get_logger
from app.storage.base import ObjectStore
from app.web.conditional import etag_of
from app.web.problems import may_pass

log = get_logger(__name__)

_STATEMENTS = 2
_ESTIMATE_SECONDS = 1.0
_KEPT_ANSWERS = 4096
_KEPT_BYTES = 8192

# The previews in the same statement, so that they are those of the attempt that the row names.
_LOOK = f"""
SELECT {JOB_COLUMNS}, queue, priority, seq, slot,
    CASE WHEN status NOT IN ('QUEUED', 'EXPIRED') THEN (
        SELECT json_agg(json_build_array(name, media_type, object_key) ORDER BY a.id)::text
        FROM artifacts a
        WHERE a.job_id = j.id AND a.kind = 'preview'
          AND (a.attempt_id IS NULL OR a.attempt_id = j.current_attempt_id)
    ) END AS previews,
    CASE WHEN status = 'QUEUED' THEN EXISTS (
        SELECT FROM models m JOIN workers w ON w.queue = m.queue AND m.pipeline = ANY(w.runnable)
        WHERE m.id = j.model_id AND NOT w.stopping
          AND w.last_seen_at > now() - make_interval(secs => $2)
    ) END AS served
FROM jobs j WHERE id = ANY($1)
"""  # noqa: S608  (only names of columns are put in)


@dataclass(frozen=True, slots=True)
class Look:
    """A job as it was at one moment: the answer's body, its entity tag and the status in it."""

    body: bytes
    etag: str
    status: str


_Basis = tuple[JobRow, list[str], Estimate | None, float | None]
"""All that an answer is made from: row, URLs of previews, estimate and seconds left."""


_Key = tuple[UUID, UUID]
"""An organisation, and a job that somebody of it asks for."""


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
        self._answers: dict[UUID, tuple[_Basis, Look]] = {}
        self._pool = PlainPool(dsn, size=_STATEMENTS, record_class=JobRow)
        self._rows = SharedReads(self._fetch_rows, statements=_STATEMENTS)
        self._ahead = SharedReads(self._count_ahead, seconds=_ESTIMATE_SECONDS)
        self._figures = SharedReads(self._find_figures, seconds=_ESTIMATE_SECONDS)

    async def start(self) -> None:
        """Get ready; the database may still be away."""
        await self._pool.start()

    async def close(self) -> None:
        """Close every connection, at once if somebody holds on to one."""
        self._pool.close()

    def forget_all(self) -> None:
        """Ask the database again for everything."""
        self._answers.clear()
        self._ahead.forget_all()
        self._figures.forget_all()

    async def look(self, principal: Principal, job_id: UUID) -> Look:
        """A job that the principal may read, as it is now; estimates may be a second old.

        Raises:
            JobNotFoundError, ForbiddenError
            asyncpg.PostgresError, asyncpg.InterfaceError, OSError: the database is away or busy.
        """
        row = await self.require_readable(principal, job_id)
        previews = self._previews(row)
        urls = [preview.url for preview in previews]
        estimate, eta_seconds = await self._estimate_if_possible(row)
        basis = (row, urls, estimate, eta_seconds)
        kept = self._answers.get(job_id)
        if kept and kept[0] == basis:
            return kept[1]
        unserved = row["status"] == JobStatus.QUEUED and not row["served"]
        body = (
            JobOut.of(
                row,
                previews=previews,
                estimate=estimate,
                eta_seconds=eta_seconds,
                warning=no_worker_warning(row["model_id"]) if unserved else None,
            )
            .model_dump_json()
            .encode()
        )
        look = Look(body, etag_of(body), row["status"])
        if len(body) <= _KEPT_BYTES:
            if len(self._answers) >= _KEPT_ANSWERS:
                self._answers.clear()
            self._answers[job_id] = (basis, look)
        return look

    async def require_readable(self, principal: Principal, job_id: UUID) -> JobRow:
        """The row of a job that the principal may read.

        Raises:
            JobNotFoundError, ForbiddenError
            asyncpg.PostgresError, asyncpg.InterfaceError, OSError: the database is away or busy.
        """
        row = await self._rows.get((principal.organisation_id, job_id))
        return service.require_readable(principal, row)

    async def _fetch_rows(self, keys: Sequence[_Key]) -> Mapping[_Key, JobRow]:
        """The rows of jobs by organisation and id; each organisation sees its own."""
        found: dict[_Key, JobRow] = {}
        for organisation_id in {organisation_id for organisation_id, _ in keys}:
            job_ids = [job_id for of, job_id in keys if of == organisation_id]
            for row in await self._fetch_of(organisation_id, job_ids):
                found[organisation_id, row["id"]] = row
        return found

    async def _fetch_of(self, organisation_id: UUID, job_ids: Sequence[UUID]) -> list[JobRow]:
        values = (organisation_id, _LOOK, job_ids, self._settings.worker_live_seconds)
        try:
            rows: list[JobRow] = await self._pool.fetch(*values)
        except (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, ConnectionError):
            # The server has hung up, as after a restart; the pool connects anew.
            rows = await self._pool.fetch(*values)
        return rows

    async def _count_ahead(self, places: Sequence[Place]) -> Mapping[Place, int]:
        return await count_ahead(self._database, places)

    async def _find_figures(
        self, pairs: Sequence[tuple[str, str]]
    ) -> Mapping[tuple[str, str], Figures]:
        return await find_figures(self._database, pairs, self._settings.worker_live_seconds)

    async def _estimate_if_possible(self, row: JobRow) -> tuple[Estimate | None, float | None]:
        """As `_estimate`, or nothing: a job that was read is told of without an estimate, too."""
        try:
            return await self._estimate(row)
        except Exception as error:
            if not may_pass(error):
                raise
            log.warning("no estimate", error=str(error)[:200])
            return None, None

    async def _estimate(self, row: JobRow) -> tuple[Estimate | None, float | None]:
        """The estimate of a job that waits, or the seconds left of one that runs."""
        if row["status"] not in {JobStatus.QUEUED, JobStatus.RUNNING}:
            return None, None
        figures = await self._figures.get((row["queue"], row["model_id"]))
        assert figures is not None, "there are figures for every pair"
        if row["status"] == JobStatus.RUNNING:
            return None, figures.remaining_seconds(row["progress_percent"])
        ahead = None
        if row["slot"] is None:
            ahead = await self._ahead.get(
                Place(*(row["user_id"], row["queue"], row["model_id"]), row["priority"], row["seq"])
            )
        return Estimate.of(ahead, figures), None

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


def answer_headers(look: Look) -> dict[str, str]:
    """The headers of an answer, with a body or without."""
    return {"ETag": look.etag, "Cache-Control": "private, no-cache"}
