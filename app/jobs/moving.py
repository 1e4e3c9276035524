"""Waiting jobs follow their model to another queue.

A job is written with the queue of its model, and waits there again after a failure. When the model
moves, it finds those jobs by the places of their users: whatever waits has one that is ready.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.session import signal_after_commit
from app.db.signals import Channel, Signal

_BATCH = 500

# From each pair of queue and model to the next one in the index: costs as much as there are pairs,
# however many users wait.
_LEFT_BEHIND = text("""
WITH RECURSIVE pair AS (
    (
        SELECT queue, model_id FROM user_queue WHERE ready_at IS NOT NULL
        ORDER BY queue, model_id LIMIT 1
    ) UNION ALL (
        SELECT next.queue, next.model_id FROM pair CROSS JOIN LATERAL (
            SELECT queue, model_id FROM user_queue
            WHERE ready_at IS NOT NULL AND (queue, model_id) > (pair.queue, pair.model_id)
            ORDER BY queue, model_id LIMIT 1
        ) next
    )
)
SELECT pair.model_id, pair.queue AS source, model.queue AS target
FROM pair JOIN models model ON model.id = pair.model_id
WHERE model.queue <> pair.queue
""")

_MOVE = text("""
WITH waiting AS (
    SELECT job.id FROM user_queue place
    JOIN jobs job ON job.user_id = place.user_id AND job.queue = place.queue
        AND job.model_id = place.model_id
    WHERE place.queue = :source AND place.model_id = :model_id AND place.ready_at IS NOT NULL
      AND job.status = 'QUEUED' AND job.slot IS NULL
    LIMIT :batch
    FOR UPDATE OF job SKIP LOCKED
), moved AS (
    UPDATE jobs SET queue = :target FROM waiting WHERE jobs.id = waiting.id
    RETURNING jobs.user_id, jobs.available_at
), announced AS (
    INSERT INTO user_queue AS u (user_id, queue, model_id, ready_at)
    SELECT user_id, :target, :model_id, min(available_at) FROM moved
    GROUP BY user_id ORDER BY user_id
    ON CONFLICT (user_id, queue, model_id)
    DO UPDATE SET ready_at = least(u.ready_at, excluded.ready_at)
)
SELECT count(*) FROM moved
""")

# Locked in a statement of its own, so that the next one sees every job announced before. A place
# that is locked elsewhere is left for the next time.
_EMPTY = """
queue = :source AND model_id = :model_id AND ready_at IS NOT NULL AND NOT EXISTS (
    SELECT FROM jobs j
    WHERE j.user_id = u.user_id AND j.queue = u.queue AND j.model_id = u.model_id
      AND j.status = 'QUEUED' AND j.slot IS NULL
)
"""
_LOCK_EMPTY = text(
    f"SELECT user_id FROM user_queue u WHERE {_EMPTY} LIMIT :batch FOR UPDATE SKIP LOCKED"  # noqa: S608
)
_CLOSE = text(
    f"UPDATE user_queue u SET ready_at = NULL WHERE user_id = ANY(:users) AND {_EMPTY}"  # noqa: S608
)


@dataclass(frozen=True)
class LeftBehind:
    """A queue in which somebody waits for a model that is in another one now."""

    model_id: str
    source: str
    target: str


async def find_left_behind(session: AsyncSession) -> Sequence[LeftBehind]:
    """Where waiting jobs, or places of users, have been left behind by their model."""
    return [LeftBehind(*row) for row in await session.execute(_LEFT_BEHIND)]


async def follow(session: AsyncSession, left: LeftBehind) -> int:
    """Let waiting jobs wait in their model's queue; returns how many, at most 500 at a time."""
    values = {"model_id": left.model_id, "source": left.source}
    batch = {**values, "batch": _BATCH}
    moved = int((await session.execute(_MOVE, {**batch, "target": left.target})).scalar_one())
    if moved:
        signal_after_commit(session, Signal(Channel.WORK_READY, left.target))
    empty = list((await session.execute(_LOCK_EMPTY, batch)).scalars())
    if empty:
        await session.execute(_CLOSE, {**values, "users": empty})
    return moved
