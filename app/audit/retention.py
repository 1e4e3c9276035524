"""Purging the audit trail of what is old: by its owner's decision only, and on record itself.

The trigger that makes the table append-only stays as it is for everybody. Whoever owns the table
takes it off within a transaction that has the table to itself, so that nobody else ever finds it
gone; the role of requests owns nothing and cannot. Between such transactions others get their turn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, delete, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.actor import Actor
from app.audit.service import Action, record
from app.audit.tables import AuditEvent
from app.db.session import Database

_BATCH = 10_000

# Fail rather than make all log-ins wait behind a lock that cannot be had.
_UNLOCK = (
    "SET LOCAL lock_timeout = '5s'",
    "ALTER TABLE audit_events DISABLE TRIGGER append_only",
)
_LOCK = "ALTER TABLE audit_events ENABLE TRIGGER append_only"


@dataclass(frozen=True)
class OldEvents:
    """How many events of one organisation, or of nobody, are older than a moment."""

    organisation_id: UUID | None
    events: int
    oldest: datetime


def _older(than: timedelta) -> ColumnElement[bool]:
    return AuditEvent.created_at < func.now() - than


async def find_old(session: AsyncSession, than: timedelta) -> Sequence[OldEvents]:
    """What a purge would delete now, by organisation."""
    rows = await session.execute(
        select(AuditEvent.organisation_id, func.count(), func.min(AuditEvent.created_at))
        .where(_older(than))
        .group_by(AuditEvent.organisation_id)
        .order_by(AuditEvent.organisation_id)
    )
    return [OldEvents(*row) for row in rows]


async def purge(
    database: Database, actor: Actor, organisation_id: UUID | None, than: timedelta
) -> int:
    """Delete an organisation's events that are older, and say so in its trail; returns how many.

    In batches, each with its record in one transaction: what was deleted is always on record.
    Needs a database user that owns the table.
    """
    purged = 0
    while deleted := await _purge_batch(database, actor, organisation_id, than):
        purged += deleted
    return purged


async def _purge_batch(
    database: Database, actor: Actor, organisation_id: UUID | None, than: timedelta
) -> int:
    whose = AuditEvent.organisation_id
    old = (
        select(AuditEvent.id)
        # Not IS NOT DISTINCT FROM, which no index answers.
        .where(whose.is_(None) if organisation_id is None else whose == organisation_id)
        .where(_older(than))
        .order_by(AuditEvent.id)
        .limit(_BATCH)
    )
    async with database.transaction() as session:
        for statement in _UNLOCK:
            await session.execute(text(statement))
        created = await session.scalars(
            delete(AuditEvent).where(AuditEvent.id.in_(old)).returning(AuditEvent.created_at)
        )
        times = created.all()
        await session.execute(text(_LOCK))
        if times:
            data = {"events": len(times), "newest": max(times).isoformat()}
            record(session, actor, Action.TRAIL_PURGED, organisation_id=organisation_id, data=data)
        return len(times)
