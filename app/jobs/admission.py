"""Admitting jobs: which waiting jobs become attempts, in what order.

Round robin across users, priority then age within one user, at most so many active jobs a user,
and never more in Redis than about twice what live workers can take, so that order is decided late.
Cost does not grow with the backlog: each user's best job is one index look-up.
"""

from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.db.base import new_id
from app.db.session import signal_after_commit
from app.db.signals import Channel, Signal

PER_WORKER = 2
"""Attempts in Redis or running for each live worker: the one it runs and the one it takes next."""

_USERS_A_ROUND = 64
_ROUNDS = 8
_RECHECK_SECONDS = 5.0
"""How long a user who could not be served is left alone, if nothing wakes them."""

_LOCK = text("SELECT pg_try_advisory_xact_lock(hashtextextended('dispatcher', 0))")

# Of every model that somebody has a turn for: how many more attempts its queue can take, and it.
_FREE = text("""
WITH live AS (
    SELECT queue, runnable FROM workers
    WHERE last_seen_at > now() - make_interval(secs => :live_seconds) AND NOT stopping
), outstanding AS (
    SELECT queue, model_id, count(*) AS attempts FROM attempts
    WHERE status IN ('DISPATCHED', 'RUNNING') GROUP BY queue, model_id
)
SELECT model.id, model.queue,
    :per_worker * (SELECT count(*) FROM live WHERE live.queue = model.queue)
        - (SELECT coalesce(sum(attempts), 0) FROM outstanding WHERE queue = model.queue)
        AS free_on_queue,
    :per_worker * (
        SELECT count(*) FROM live
        WHERE live.queue = model.queue AND model.pipeline = ANY (live.runnable)
    ) - (
        SELECT coalesce(sum(attempts), 0) FROM outstanding
        WHERE queue = model.queue AND model_id = model.id
    ) AS free
FROM models model
WHERE EXISTS (
    SELECT 1 FROM user_queue
    WHERE queue = model.queue AND model_id = model.id AND ready_at <= now()
)
ORDER BY model.queue
""")

# The lock on the user's row lets the next statement see every job announced before.
_TURN = text("""
SELECT turn.user_id, turn.model_id
FROM unnest(CAST(:models AS text[])) AS model (id)
CROSS JOIN LATERAL (
    SELECT user_id, model_id, last_admit_at FROM user_queue
    WHERE queue = :queue AND model_id = model.id AND ready_at <= now()
    ORDER BY last_admit_at NULLS FIRST, user_id
    LIMIT :limit
    FOR UPDATE SKIP LOCKED
) turn
ORDER BY turn.last_admit_at NULLS FIRST, turn.user_id
LIMIT :limit
""")

_PICK = text("""
SELECT turn.user_id, job.id AS job_id, job.model_id, job.failures, free.slot,
       model.time_limit_seconds, organisation.id AS organisation_id, organisation.room
FROM (
    SELECT user_id, min(place) AS place, array_agg(model_id) AS models
    FROM unnest(CAST(:users AS uuid[]), CAST(:models AS text[]))
        WITH ORDINALITY AS row (user_id, model_id, place)
    GROUP BY user_id
) turn
JOIN users ON users.id = turn.user_id
CROSS JOIN LATERAL (
    SELECT o.id, CASE WHEN coalesce(o.max_active_jobs, :organisation_active) > 0 THEN
        coalesce(o.max_active_jobs, :organisation_active) - (
            SELECT count(*) FROM jobs active
            WHERE active.organisation_id = o.id AND active.slot IS NOT NULL
        ) END AS room
    FROM organisations o WHERE o.id = users.organisation_id
) organisation
CROSS JOIN LATERAL (
    SELECT slot FROM generate_series(1, coalesce(users.max_active_jobs, :max_active)) AS slot
    WHERE NOT EXISTS (
        SELECT 1 FROM jobs taken WHERE taken.user_id = turn.user_id AND taken.slot = slot.slot
    )
    ORDER BY slot LIMIT 1
) free
CROSS JOIN LATERAL (
    SELECT best.* FROM unnest(turn.models) AS wanted (model_id)
    CROSS JOIN LATERAL (
        SELECT id, model_id, failures, priority, seq FROM jobs
        WHERE user_id = turn.user_id AND queue = :queue AND model_id = wanted.model_id
          AND status = 'QUEUED' AND slot IS NULL AND available_at <= now()
        ORDER BY priority DESC, seq
        LIMIT 1
        FOR UPDATE SKIP LOCKED
    ) best
    ORDER BY best.priority DESC, best.seq
    LIMIT 1
) job
JOIN models model ON model.id = job.model_id
ORDER BY turn.place
""")

# The served go to the end of the round with all of their places in this queue, so that two models
# do not make two turns; places that somebody else has locked just now are left out, not waited for.
_ADMIT = text("""
WITH admitted AS (
    SELECT * FROM unnest(
        CAST(:attempt_ids AS uuid[]), CAST(:job_ids AS uuid[]), CAST(:slots AS smallint[]),
        CAST(:time_limits AS integer[])
    ) AS t (attempt_id, job_id, slot, time_limit)
), updated AS (
    UPDATE jobs SET slot = admitted.slot, current_attempt_id = admitted.attempt_id,
        stage = 'dispatched'
    FROM admitted WHERE jobs.id = admitted.job_id
    RETURNING jobs.id, jobs.model_id, jobs.queue, jobs.failures, admitted.attempt_id,
        admitted.time_limit
), attempted AS (
    INSERT INTO attempts (id, job_id, model_id, queue, number, status, time_limit_seconds)
    SELECT attempt_id, id, model_id, queue, failures + 1, 'DISPATCHED', time_limit FROM updated
), served AS (
    UPDATE user_queue u SET last_admit_at = clock_timestamp()
    FROM (
        SELECT user_id, queue, model_id FROM user_queue
        WHERE queue = :queue AND user_id = ANY(:users) FOR UPDATE SKIP LOCKED
    ) mine
    WHERE u.user_id = mine.user_id AND u.queue = mine.queue AND u.model_id = mine.model_id
)
INSERT INTO job_events (job_id, attempt_id, type)
SELECT id, attempt_id, 'job.dispatched' FROM updated ORDER BY attempt_id
""")

# A user who could not be served: nothing waits (NULL), a retry is due later, or all slots are taken
# (looked at again soon, should nothing wake them). They have had their turn all the same.
_NOT_SERVED = text("""
UPDATE user_queue u SET last_admit_at = clock_timestamp(), ready_at = (
    SELECT CASE WHEN min(available_at) > now()
        THEN least(min(available_at), now() + make_interval(secs => :recheck))
        ELSE now() + make_interval(secs => :recheck) END
    FROM (
        SELECT available_at FROM jobs
        WHERE user_id = u.user_id AND queue = u.queue AND model_id = u.model_id
          AND status = 'QUEUED' AND slot IS NULL
        ORDER BY priority DESC, seq LIMIT 100
    ) waiting
    HAVING count(*) > 0
)
FROM unnest(CAST(:users AS uuid[]), CAST(:models AS text[])) AS row (user_id, model_id)
WHERE u.queue = :queue AND u.user_id = row.user_id AND u.model_id = row.model_id
""")


@dataclass(frozen=True)
class AdmittedAttempt:
    """An attempt that is to be pushed to its queue."""

    attempt_id: UUID
    queue: str
    time_limit_seconds: int


@dataclass
class _Capacity:
    """How many more attempts one queue can take: in all, and of each model."""

    total: int
    of_model: dict[str, int] = field(default_factory=dict)

    @property
    def models(self) -> list[str]:
        return [model for model, free in self.of_model.items() if free > 0]

    def take(self, model_id: str) -> bool:
        """Use up one place for a model, if there is one."""
        if self.total <= 0 or self.of_model.get(model_id, 0) <= 0:
            return False
        self.total -= 1
        self.of_model[model_id] -= 1
        return True


async def admit_jobs(session: AsyncSession, settings: Settings) -> list[AdmittedAttempt]:
    """Turn waiting jobs into DISPATCHED attempts, within one transaction.

    Only one dispatcher admits at a time; the others get an empty list at once. The lock is taken
    in a statement of its own, so that the next one sees what the one before has committed.

    Returns:
        At most one job of each of 64 users a queue, so that these are soon on their way; there may
        be more to admit unless it is empty.
    """
    if not (await session.execute(_LOCK)).scalar_one():
        return []
    admitted: list[AdmittedAttempt] = []
    for queue, capacity in (await _capacities(session, settings)).items():
        admitted += await _admit_from_queue(session, settings, queue, capacity)
    return admitted


async def _capacities(session: AsyncSession, settings: Settings) -> dict[str, _Capacity]:
    capacities: dict[str, _Capacity] = {}
    for model in await session.execute(
        _FREE, {"live_seconds": settings.worker_live_seconds, "per_worker": PER_WORKER}
    ):
        capacity = capacities.setdefault(model.queue, _Capacity(int(model.free_on_queue)))
        capacity.of_model[model.id] = int(model.free)
    return capacities


async def _admit_from_queue(
    session: AsyncSession, settings: Settings, queue: str, capacity: _Capacity
) -> list[AdmittedAttempt]:
    """Admit the jobs of those whose turn it is, until some were or nobody is left."""
    for _ in range(_ROUNDS):
        if capacity.total <= 0 or not capacity.models:
            break
        turns = (
            await session.execute(
                _TURN, {"queue": queue, "models": capacity.models, "limit": _USERS_A_ROUND}
            )
        ).all()
        if not turns:
            break
        picks: Sequence[Row[Any]] = (
            await session.execute(
                _PICK,
                {
                    "users": [turn.user_id for turn in turns],
                    "models": [turn.model_id for turn in turns],
                    "queue": queue,
                    "max_active": settings.max_active_jobs_per_user,
                    "organisation_active": settings.max_active_jobs_per_organisation,
                },
            )
        ).all()
        picks = _with_room(picks)
        await _send_away(session, queue, _without(turns, users={pick.user_id for pick in picks}))
        # Who finds no room only because others came first keeps the place.
        taken = [pick for pick in picks if capacity.take(pick.model_id)]
        if taken:
            return await _admit(session, queue, taken)
    return []


def _with_room(picks: Sequence[Row[Any]]) -> list[Row[Any]]:
    """Those whose organisations may have one more active job, counting those before them.

    Nobody else admits at the same time, so what was counted stays true but for jobs that end.
    """
    taken: Counter[UUID] = Counter()
    fitting = []
    for pick in picks:
        if pick.room is None or taken[pick.organisation_id] < pick.room:
            taken[pick.organisation_id] += 1
            fitting.append(pick)
    return fitting


def _without(turns: Sequence[Row[Any]], users: AbstractSet[UUID]) -> list[Row[Any]]:
    return [turn for turn in turns if turn.user_id not in users]


async def _admit(
    session: AsyncSession, queue: str, picks: Sequence[Row[Any]]
) -> list[AdmittedAttempt]:
    attempts = [AdmittedAttempt(new_id(), queue, int(pick.time_limit_seconds)) for pick in picks]
    await session.execute(
        _ADMIT,
        {
            "attempt_ids": [attempt.attempt_id for attempt in attempts],
            "job_ids": [pick.job_id for pick in picks],
            "slots": [pick.slot for pick in picks],
            "time_limits": [attempt.time_limit_seconds for attempt in attempts],
            "queue": queue,
            "users": [pick.user_id for pick in picks],
        },
    )
    for pick in picks:
        signal_after_commit(session, Signal(Channel.JOB_CHANGED, str(pick.job_id)))
    return attempts


async def _send_away(session: AsyncSession, queue: str, idle: Sequence[Row[Any]]) -> None:
    """Leave those alone who have nothing to admit, until something changes."""
    if idle:
        await session.execute(
            _NOT_SERVED,
            {
                "queue": queue,
                "users": [turn.user_id for turn in idle],
                "models": [turn.model_id for turn in idle],
                "recheck": _RECHECK_SECONDS,
            },
        )
