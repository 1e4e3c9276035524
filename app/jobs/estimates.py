"""How far down the queue a job is, and how long it may take; estimates, never promises."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text

from app.db.session import Database

MAX_POSITION = 1000
"""Positions are counted up to here, so that asking costs the same however long the queue is."""

_RUN_SAMPLE = 50
_LAST = (1 << 63) - 1

# Under round robin, the jobs ahead of the r-th job of one user and model are its own r - 1 and, of
# each other place in the round with something waiting, the first r at most.
_JOBS_AHEAD = text("""
SELECT own.rank + others.jobs AS ahead
FROM unnest(
    CAST(:users AS uuid[]), CAST(:queues AS text[]), CAST(:models AS text[]),
    CAST(:priorities AS int[]), CAST(:seqs AS bigint[])
) WITH ORDINALITY AS me (user_id, queue, model_id, priority, seq, place)
CROSS JOIN LATERAL (
    SELECT count(*) AS rank FROM (
        (
            SELECT 1 FROM jobs
            WHERE user_id = me.user_id AND queue = me.queue AND model_id = me.model_id
              AND status = 'QUEUED' AND slot IS NULL AND priority > me.priority
            LIMIT :limit
        ) UNION ALL (
            SELECT 1 FROM jobs
            WHERE user_id = me.user_id AND queue = me.queue AND model_id = me.model_id
              AND status = 'QUEUED' AND slot IS NULL AND priority = me.priority AND seq < me.seq
            LIMIT :limit
        )
    ) mine
) own
CROSS JOIN LATERAL (
    SELECT count(*) AS jobs FROM (
        SELECT 1
        FROM user_queue u
        CROSS JOIN LATERAL (
            SELECT 1 FROM jobs j
            WHERE j.user_id = u.user_id AND j.queue = u.queue AND j.model_id = u.model_id
              AND j.status = 'QUEUED' AND j.slot IS NULL
            LIMIT own.rank + 1
        ) waiting
        WHERE u.queue = me.queue AND u.ready_at IS NOT NULL
          AND (u.user_id, u.model_id) <> (me.user_id, me.model_id)
        LIMIT :limit
    ) theirs
) others
ORDER BY me.place
""")

_FIGURES = text("""
SELECT (
    SELECT count(*) FROM workers w
    WHERE w.queue = pair.queue AND NOT w.stopping
      AND w.last_seen_at > now() - make_interval(secs => :live_seconds)
) AS workers, (
    SELECT count(*) FROM attempts a
    WHERE a.queue = pair.queue AND a.status IN ('DISPATCHED', 'RUNNING')
) AS active, (
    SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) FROM (
        SELECT extract(epoch FROM finished_at - started_at) AS seconds
        FROM attempts a WHERE a.model_id = pair.model_id AND a.status = 'SUCCEEDED'
        ORDER BY finished_at DESC LIMIT :sample
    ) recent
) AS run_seconds
FROM unnest(CAST(:queues AS text[]), CAST(:models AS text[])) WITH ORDINALITY
    AS pair (queue, model_id, place)
ORDER BY pair.place
""")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a job waits in the round robin; by default, where a new one would."""

    user_id: UUID
    queue: str
    model_id: str
    priority: int = 0
    seq: int = _LAST


@dataclass(frozen=True, slots=True)
class Figures:
    """What is known of a queue and a model: live workers, what they have to do, how long it takes.

    `run_seconds` is the median of the model's latest successful attempts; None before the first.
    """

    workers: int
    active: int
    run_seconds: float | None

    def remaining_seconds(self, progress_percent: float) -> float | None:
        """Seconds to the end of a run, as of its last report: so it only changes with that."""
        if self.run_seconds is None:
            return None
        return self.run_seconds * (1 - progress_percent / 100)


@dataclass(frozen=True)
class Estimate:
    """What can be said of a job that waits."""

    queue_position: int
    wait_seconds: float | None
    run_seconds: float | None

    @classmethod
    def of(cls, ahead: int | None, figures: Figures) -> "Estimate":
        """The estimate for a job with so many ahead of it; None if it has been dispatched."""
        position = min((ahead or 0) + 1, MAX_POSITION)
        wait_seconds = None
        if figures.run_seconds is not None and figures.workers:
            before = 0 if ahead is None else max(figures.active + position - figures.workers, 0)
            wait_seconds = before * figures.run_seconds / figures.workers
        return cls(position, wait_seconds, figures.run_seconds)

    @property
    def eta_seconds(self) -> float | None:
        """Seconds until it has ended, if both parts are known."""
        if self.wait_seconds is None or self.run_seconds is None:
            return None
        return self.wait_seconds + self.run_seconds


async def count_ahead(database: Database, places: Sequence[Place]) -> Mapping[Place, int]:
    """How many jobs come before each place, counted up to `MAX_POSITION`."""
    found = await database.read(
        _JOBS_AHEAD,
        {
            "users": [place.user_id for place in places],
            "queues": [place.queue for place in places],
            "models": [place.model_id for place in places],
            "priorities": [place.priority for place in places],
            "seqs": [place.seq for place in places],
            "limit": MAX_POSITION,
        },
    )
    return {place: row.ahead for place, row in zip(places, found, strict=True)}


async def find_figures(
    database: Database, pairs: Sequence[tuple[str, str]], live_seconds: float
) -> Mapping[tuple[str, str], Figures]:
    """The figures of pairs of queue and model."""
    found = await database.read(
        _FIGURES,
        {
            "queues": [queue for queue, _ in pairs],
            "models": [model_id for _, model_id in pairs],
            "live_seconds": live_seconds,
            "sample": _RUN_SAMPLE,
        },
    )
    return {
        pair: Figures(
            row.workers, row.active, None if row.run_seconds is None else float(row.run_seconds)
        )
        for pair, row in zip(pairs, found, strict=True)
    }
