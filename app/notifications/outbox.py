"""The outbox: what is due is claimed under a lease, and what became of it is written down.

Any number of processes may claim. One that dies while it delivers loses its lease, and another one
delivers again: at least once, with the same id.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.notifications.disabling import disable_by_itself
from app.notifications.events import TEST
from app.notifications.signing import SecretOf
from app.notifications.tables import (
    MAX_TRIES,
    Channel,
    Delivery,
    DeliveryChannel,
    DeliveryStatus,
    Webhook,
)

WAITS_SECONDS = (5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 10 * 3600)
"""After the first try, the second …: what the Standard Webhooks specification proposes."""

LONGEST_ASKED_SECONDS = 24 * 3600.0
"""A receiver that asks for a longer wait waits so long: it may have meant something else."""

LEASE_SECONDS = 60.0
"""Several times what a try may take."""

_JITTER = 0.1
_DELETE_BATCH = 1000

# From each destination to the next one in the index, and then in turns: one that has very many
# waiting, or none due, costs as much as any other. What is chosen is locked only then, and looked
# at again.
_CLAIM = text("""
WITH RECURSIVE waiting AS (
    (SELECT destination FROM deliveries WHERE status = 'PENDING' ORDER BY destination LIMIT 1)
    UNION ALL
    SELECT (
        SELECT d.destination FROM deliveries d
        WHERE d.status = 'PENDING' AND d.destination > waiting.destination
        ORDER BY d.destination LIMIT 1
    ) FROM waiting WHERE waiting.destination IS NOT NULL
), chosen AS MATERIALIZED (
    SELECT due.id FROM waiting
    LEFT JOIN unnest(CAST(:busy AS text[]), CAST(:busy_with AS int[]))
        AS busy (destination, number) USING (destination)
    CROSS JOIN LATERAL (
        SELECT id, due_at, row_number() OVER (ORDER BY due_at) AS turn FROM (
            SELECT d.id, d.due_at FROM deliveries d
            WHERE d.status = 'PENDING' AND d.destination = waiting.destination
              AND d.due_at <= now()
            ORDER BY d.due_at LIMIT greatest(:each - coalesce(busy.number, 0), 0)
        ) oldest
    ) due
    ORDER BY turn, due_at LIMIT :limit
), locked AS MATERIALIZED (
    SELECT d.id FROM deliveries d
    WHERE d.id IN (SELECT id FROM chosen) AND d.status = 'PENDING' AND d.due_at <= now()
    FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE deliveries d SET attempts = d.attempts + 1, tries_left = d.tries_left - 1,
        tried_at = now(), due_at = now() + make_interval(secs => :lease)
    FROM locked WHERE d.id = locked.id
    RETURNING d.*
)
SELECT claimed.*, u.username, u.email, NOT u.is_active OR claimed.webhook_id IS NOT NULL AND (
        w.id IS NULL OR w.disabled_at IS NOT NULL AND claimed.type <> 'webhook.test'
    ) AS off,
    coalesce(w.secret_version, p.secret_version, 1) AS secret_version,
    CASE WHEN w.id IS NULL THEN p.secret_rotated_at ELSE w.secret_rotated_at END
        AS secret_rotated_at
FROM claimed
JOIN users u ON u.id = claimed.user_id
LEFT JOIN webhooks w ON w.id = claimed.webhook_id
LEFT JOIN notification_preferences p ON p.user_id = claimed.user_id
""")


@dataclass(frozen=True, slots=True)
class DueDelivery:
    """A delivery that this process holds the lease of."""

    id: UUID
    event_id: UUID
    channel: Channel
    type: str
    occurred_at: datetime
    user_id: UUID
    webhook_id: UUID | None
    url: str | None
    destination: str
    data: dict[str, Any]
    attempts: int
    """How often it has been tried, with this time; also what the lease is known by."""
    tries_left: int
    username: str
    email: str | None
    off: bool
    """Whether its user is deactivated, or its webhook disabled or gone."""
    secret: SecretOf


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a try: delivered, if there is no error."""

    error: str | None = None
    answer_status: int | None = None
    answer_start: str | None = None
    final: bool = False
    """Another try would be in vain."""
    gone: bool = False
    """The receiver asks never to be called again."""
    retry_after: float = 0.0
    """Seconds for which the receiver asks not to be called."""


async def claim_due(
    session: AsyncSession, *, limit: int, each: int, busy: Mapping[str, int]
) -> list[DueDelivery]:
    """Take deliveries that are due, the oldest of every destination first.

    Args:
        session: the transaction.
        limit: how many at most.
        each: how many at most for one destination, with those of `busy`.
        busy: how many are under way, by destination.
    """
    rows = await session.execute(
        _CLAIM,
        {
            "limit": limit,
            "each": each,
            "busy": list(busy.keys()),
            "busy_with": list(busy.values()),
            "lease": LEASE_SECONDS,
        },
    )
    return [
        DueDelivery(
            id=row.id,
            event_id=row.event_id,
            channel=Channel(row.channel),
            type=row.type,
            occurred_at=row.occurred_at,
            user_id=row.user_id,
            webhook_id=row.webhook_id,
            url=row.url,
            destination=row.destination,
            data=row.data,
            attempts=row.attempts,
            tries_left=row.tries_left,
            username=row.username,
            email=row.email,
            off=row.off,
            secret=SecretOf(
                "webhook" if row.webhook_id else "callbacks",
                row.webhook_id or row.user_id,
                row.secret_version,
                row.secret_rotated_at,
            ),
        )
        for row in rows
    ]


def wait_before_next(tries_left: int, asked: float = 0.0) -> float | None:
    """Seconds until the next try, a little spread out; None if there is none.

    Args:
        tries_left: how many there still are.
        asked: how long the receiver asks for; the schedule's wait if that is longer.
    """
    if tries_left <= 0:
        return None
    scheduled = WAITS_SECONDS[len(WAITS_SECONDS) - min(tries_left, len(WAITS_SECONDS))]
    wait = max(scheduled, min(asked, LONGEST_ASKED_SECONDS))
    return wait * random.uniform(1, 1 + _JITTER)  # noqa: S311  (no secret)


async def record(
    session: AsyncSession, delivery: DueDelivery, outcome: Outcome, *, disable_after_days: float
) -> bool:
    """Write down what became of a try; whether it was still ours to write.

    A webhook that has failed for so many days, and for at least as many tries as one delivery has,
    is disabled; one that is gone at once.
    """
    values: dict[str, Any] = {
        "answer_status": outcome.answer_status,
        "answer_start": outcome.answer_start,
        "error": outcome.error,
    }
    wait = None if outcome.final else wait_before_next(delivery.tries_left, outcome.retry_after)
    if outcome.error is None:
        values |= {"status": DeliveryStatus.DELIVERED.value, "finished_at": func.now()}
    elif wait is None:
        values |= {"status": DeliveryStatus.FAILED.value, "finished_at": func.now()}
    else:
        values["due_at"] = func.now() + timedelta(seconds=wait)
    counts = delivery.webhook_id and delivery.type != TEST and not delivery.off
    if delivery.webhook_id and counts:
        # The webhook is locked before its deliveries, here as everywhere.
        if outcome.error is None:
            await _note_success(session, delivery.webhook_id)
        else:
            await session.get(Webhook, delivery.webhook_id, with_for_update=True)
    recorded = await session.execute(
        update(Delivery)
        .where(
            Delivery.id == delivery.id,
            Delivery.attempts == delivery.attempts,
            Delivery.status == DeliveryStatus.PENDING.value,
        )
        .values(**values)
        .returning(Delivery.id)
    )
    if recorded.scalar_one_or_none() is None:
        return False
    if delivery.webhook_id and counts and outcome.error is not None:
        await _note_failure(session, delivery.webhook_id, outcome, disable_after_days)
    return True


async def _note_success(session: AsyncSession, webhook_id: UUID) -> None:
    await session.execute(
        update(Webhook)
        .where(Webhook.id == webhook_id, Webhook.failures > 0)
        .values(failures=0, failing_since=None)
    )


async def _note_failure(
    session: AsyncSession, webhook_id: UUID, outcome: Outcome, disable_after_days: float
) -> None:
    webhook = (
        await session.execute(
            update(Webhook)
            .where(Webhook.id == webhook_id, Webhook.disabled_at.is_(None))
            .values(
                failures=Webhook.failures + 1,
                failing_since=func.coalesce(Webhook.failing_since, func.now()),
            )
            .returning(
                Webhook.failures,
                (Webhook.failing_since < func.now() - timedelta(days=disable_after_days)).label(
                    "long"
                ),
            )
        )
    ).one_or_none()
    if webhook is None:
        return
    if outcome.gone:
        await disable_by_itself(session, webhook_id, "The receiver answered 410 Gone.")
    elif webhook.long and webhook.failures >= MAX_TRIES:
        reason = f"Every try has failed for days: {outcome.error}"
        await disable_by_itself(session, webhook_id, reason)


async def announce_channels(session: AsyncSession, *, email: bool) -> None:
    """Say whether e-mail is set up: while it is not, nothing is queued for it."""
    if email:
        row = pg_insert(DeliveryChannel).values(name=Channel.EMAIL.value)
        await session.execute(row.on_conflict_do_nothing())
    else:
        await session.execute(
            delete(DeliveryChannel).where(DeliveryChannel.name == Channel.EMAIL.value)
        )


async def delete_old(session: AsyncSession, keep_days: float) -> int:
    """Delete deliveries that are older than so many days; returns how many, 1000 at most."""
    old = (
        select(Delivery.id)
        .where(Delivery.occurred_at < func.now() - timedelta(days=keep_days))
        .order_by(Delivery.occurred_at)
        .limit(_DELETE_BATCH)
    )
    deleted = await session.execute(
        delete(Delivery).where(Delivery.id.in_(old)).returning(Delivery.id)
    )
    return len(deleted.all())
