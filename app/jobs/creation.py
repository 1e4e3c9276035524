"""Writing new jobs: one statement by asyncpg for all that a user asks for at the same time.

The statement is a transaction of its own: inputs are kept, jobs, artifacts and first events are
written and the user is put into the round robin, or nothing of it. It also checks what was read
before and may have changed since: the model's revision, the uploads and the idempotency key.
"""

import asyncio
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import asyncpg

from app.accounts.principal import Principal
from app.artifacts.uploads import CheckedUpload
from app.catalog.known import KnownModel
from app.db.base import new_id
from app.db.pool import PlainPool
from app.db.signals import Channel, Signal, Signals
from app.jobs.rows import JOB_COLUMNS, JobRow

_CONNECTIONS = 8
# Of one user: while Postgres writes some, this process can check others and answer for others.
_BATCH = 8
_STATEMENTS = 2

# First the user's use is locked, so that no two statements find room for the same job; an update of
# it by a trigger, from whatever else queues jobs, is waited for and seen.
#
# The upsert locks the user's place even where it changes nothing: a dispatcher that has just found
# nothing waiting holds that lock until it has said so, and is then overruled (docs/decisions/0010).
_CREATE = f"""
WITH model AS MATERIALIZED (
    SELECT id, version, queue, max_attempts, xmin::text AS revision, EXISTS (
        SELECT FROM workers w
        WHERE w.queue = models.queue AND models.pipeline = ANY(w.runnable) AND NOT w.stopping
          AND w.last_seen_at > now() - make_interval(secs => $3)
    ) AS served
    FROM models WHERE enabled AND id = ANY($5)
), wanted AS MATERIALIZED (
    SELECT w.*, m.version, m.queue, m.max_attempts, m.served, m.id IS NOT NULL AS current,
        w.idempotency_key IS NULL OR pg_try_advisory_xact_lock(
            hashtextextended(format('idempotency:%s:%s', $1::uuid, w.idempotency_key), 0)
        ) AS free
    FROM unnest(
        $4::uuid[], $5::text[], $6::text[], $7::jsonb[], $8::text[], $9::text[], $10::text[],
        $11::text[], $12::text[], $13::bool[], $14::int[], $15::uuid[], $23::text[],
        $24::text[]
    ) WITH ORDINALITY AS w (
        job_id, model_id, revision, input_params, prompt, idempotency_key, request_hash,
        request_id, traceparent, require_worker, uploads, reproduces, cache_key, callback_url, place
    )
    LEFT JOIN model m ON m.id = w.model_id AND m.revision = w.revision
), kept AS MATERIALIZED (
    SELECT u.*, t.name, t.sha256, t.object_key
    FROM unnest(
        $16::uuid[], $17::uuid[], $18::uuid[], $19::text[], $20::text[], $21::bigint[], $22::text[]
    ) AS u (artifact_id, job_id, ticket_id, parameter, media_type, size_bytes, etag)
    JOIN upload_tickets t ON t.id = u.ticket_id
    WHERE t.keep_until IS NULL OR t.keep_until > now()
    ORDER BY t.id
    FOR UPDATE OF t
), room AS MATERIALIZED (
    SELECT nullif(coalesce(u.max_queued_jobs, $25), 0) - usage.queued_jobs AS jobs
    FROM user_usage usage JOIN users u ON u.id = usage.user_id
    WHERE usage.user_id = $1 FOR UPDATE OF usage
), fit AS (
    SELECT w.*, row_number() OVER (ORDER BY place) <= room.jobs IS NOT FALSE AS has_room
    FROM wanted w CROSS JOIN room
    WHERE current AND free AND (served OR NOT require_worker)
      AND uploads = (SELECT count(*) FROM kept WHERE kept.job_id = w.job_id)
), created AS (
    INSERT INTO jobs (
        id, organisation_id, user_id, model_id, model_version, queue, status, input_params, prompt,
        reproduces, cache_key, callback_url, max_attempts, idempotency_key, request_hash,
        request_id, traceparent
    )
    SELECT job_id, $2::uuid, $1::uuid, model_id, version, queue, 'QUEUED', input_params, prompt,
        reproduces, cache_key, callback_url, max_attempts, idempotency_key, request_hash,
        request_id, traceparent
    FROM fit WHERE has_room ORDER BY place
    ON CONFLICT (user_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING queue, {JOB_COLUMNS}
), kept_for_good AS (
    UPDATE upload_tickets t
    SET keep_until = NULL, size_bytes = coalesce(t.size_bytes, kept.size_bytes)
    FROM kept JOIN created ON created.id = kept.job_id WHERE t.id = kept.ticket_id
), inputs AS (
    INSERT INTO artifacts (
        id, job_id, parameter, kind, name, media_type, size_bytes, sha256, etag, object_key
    )
    SELECT artifact_id, job_id, parameter, 'input', name, kept.media_type, kept.size_bytes,
        sha256, etag, object_key
    FROM kept JOIN created ON created.id = kept.job_id
), first_event AS (
    INSERT INTO job_events (job_id, type, data)
    SELECT id, 'job.created', jsonb_build_object('model_id', model_id) FROM created
), announced AS (
    INSERT INTO user_queue AS u (user_id, queue, model_id, ready_at)
    SELECT DISTINCT $1::uuid, queue, model_id, now() FROM created ORDER BY queue, model_id
    ON CONFLICT (user_id, queue, model_id) DO UPDATE SET ready_at = excluded.ready_at
    WHERE u.ready_at IS NULL OR u.ready_at > excluded.ready_at
)
SELECT wanted.current, wanted.free, wanted.served, fit.has_room,
    ARRAY(SELECT ticket_id FROM kept WHERE kept.job_id = wanted.job_id) AS kept, created.*
FROM wanted
LEFT JOIN fit ON fit.job_id = wanted.job_id
LEFT JOIN created ON created.id = wanted.job_id
ORDER BY wanted.place
"""  # noqa: S608  (only names of columns are put in)


@dataclass(frozen=True, slots=True)
class Draft:
    """A job that was found fit to be created, of what is known of its model."""

    known: KnownModel
    input_params: dict[str, Any]
    prompt: str | None
    request_id: str
    traceparent: str
    uploads: Sequence[CheckedUpload] = ()
    reproduces: UUID | None = None
    cache_key: str | None = None
    callback_url: str | None = None
    idempotency_key: str | None = None
    request_hash: str | None = None
    require_worker: bool = False
    job_id: UUID = field(default_factory=new_id)


class JobWriter:
    """Writes new jobs; one of each process.

    A user's jobs that arrive while a statement with others of the same user is under way go into
    that user's next one; where many arrive at once, a second statement is sent beside the first.
    No user waits for another's.

    Args:
        dsn: a `postgresql://` URL, as asyncpg takes it.
        signals: how the dispatcher is woken.
        live_seconds: how long after its last report a worker counts.
        max_queued: how many jobs a user may have waiting, unless the user's row has another number;
            0 is no limit.
    """

    def __init__(self, dsn: str, signals: Signals, live_seconds: float, max_queued: int) -> None:
        self._pool = PlainPool(dsn, size=_CONNECTIONS, record_class=JobRow)
        self._signals = signals
        self._live_seconds = live_seconds
        self._max_queued = max_queued
        self._queues: dict[UUID, _Queue] = {}
        self._tasks: set[asyncio.Task[None]] = set()  # the loop itself does not hold on to them

    async def start(self) -> None:
        """Get ready; the database may still be away."""
        await self._pool.start()

    async def close(self) -> None:
        """Close every connection, at once if somebody holds on to one."""
        self._pool.close()

    async def write(self, principal: Principal, draft: Draft) -> JobRow:
        """Write a job, if what it was checked against is still so.

        Returns:
            The job's row with `current`, `free`, `served`, `kept` and `has_room` beside it: whether
            the model is as it was known, no other request is using the idempotency key, a live
            worker serves the model, which uploads are there, and whether the user's queue has room
            (None if it was not fit anyway). `id` is None if the job was not written.

        Raises:
            asyncpg.PostgresError, asyncpg.InterfaceError, OSError: the database is away or busy.
        """
        queue = self._queues.get(principal.user_id)
        if queue is None:
            queue = self._queues[principal.user_id] = _Queue()
        future: asyncio.Future[JobRow] = asyncio.get_running_loop().create_future()
        queue.waiting.append((draft, future))
        # The second of a user waits for the first one's lock: only while others find connections.
        most = _STATEMENTS if len(self._queues) <= _CONNECTIONS // _STATEMENTS else 1
        if queue.writers < min(most, math.ceil(len(queue.waiting) / _BATCH)):
            queue.writers += 1
            task = asyncio.create_task(self._write_all(principal, queue))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await future

    async def _write_all(self, principal: Principal, queue: "_Queue") -> None:
        while queue.waiting:
            batch = queue.waiting[:_BATCH]
            del queue.waiting[:_BATCH]
            await self._write_batch(principal, queue, batch)
        # In the same step as the last look, or what came in between would wait for ever.
        queue.writers -= 1
        if not queue.writers:
            del self._queues[principal.user_id]

    async def _write_batch(
        self, principal: Principal, queue: "_Queue", batch: "Sequence[_Waiting]"
    ) -> None:
        try:
            rows = await self._execute(principal, [draft for draft, _ in batch])
        except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as error:
            if len(batch) == 1:
                _fail(batch, error)
            else:  # one of them; it must not fail the others
                for one in batch:
                    await self._write_batch(principal, queue, [one])
        except TimeoutError as error:
            # Those behind them would only wait as long again.
            _fail([*batch, *queue.waiting], error)
            queue.waiting.clear()
        except Exception as error:  # noqa: BLE001  (those who asked say so)
            _fail(batch, error)
        else:
            for (_, future), row in zip(batch, rows, strict=True):
                if not future.done():
                    future.set_result(row)

    async def _execute(self, principal: Principal, drafts: Sequence[Draft]) -> Sequence[JobRow]:
        uploads = [(draft, upload) for draft in drafts for upload in draft.uploads]
        rows: Sequence[JobRow] = await self._pool.fetch(
            principal.organisation_id,
            _CREATE,
            principal.user_id,
            principal.organisation_id,
            self._live_seconds,
            [draft.job_id for draft in drafts],
            [draft.known.model.id for draft in drafts],
            [draft.known.revision for draft in drafts],
            [json.dumps(draft.input_params) for draft in drafts],
            [draft.prompt for draft in drafts],
            [draft.idempotency_key for draft in drafts],
            [draft.request_hash for draft in drafts],
            [draft.request_id for draft in drafts],
            [draft.traceparent for draft in drafts],
            [draft.require_worker for draft in drafts],
            [len(draft.uploads) for draft in drafts],
            [draft.reproduces for draft in drafts],
            [new_id() for _ in uploads],
            [draft.job_id for draft, _ in uploads],
            [upload.ticket.id for _, upload in uploads],
            [upload.parameter.name for _, upload in uploads],
            [upload.media_type for _, upload in uploads],
            [upload.size_bytes for _, upload in uploads],
            [upload.etag for _, upload in uploads],
            [draft.cache_key for draft in drafts],
            [draft.callback_url for draft in drafts],
            self._max_queued,
        )
        for queue in {row["queue"] for row in rows if row["id"] is not None}:
            self._signals.send(Signal(Channel.WORK_READY, queue))
        return rows


_Waiting = tuple[Draft, asyncio.Future[JobRow]]


@dataclass(slots=True)
class _Queue:
    """Jobs of one user that wait, and how many write them."""

    waiting: list[_Waiting] = field(default_factory=list)
    writers: int = 0


def _fail(batch: Sequence[_Waiting], error: Exception) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(error)
            future.exception()  # perhaps nobody waits any more
