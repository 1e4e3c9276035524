"""The query of what is used, and may be."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Executable, Row, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.usage.tables import UserUsage

# Sums over the members of an organisation, which are as many rows as it has people.
_FIND: Executable = text("""
WITH month AS (SELECT date_trunc('month', now() AT TIME ZONE 'UTC') AS first)
SELECT u.id AS user_id,
    coalesce(u.max_active_jobs, :user_active) AS user_active_limit,
    coalesce(u.max_queued_jobs, :user_queued) AS user_queued_limit,
    coalesce(u.max_storage_bytes, :user_storage) AS user_storage_limit,
    coalesce(u.max_gpu_seconds, :user_gpu) AS user_gpu_limit,
    coalesce(o.max_active_jobs, :organisation_active) AS organisation_active_limit,
    coalesce(o.max_queued_jobs, :organisation_queued) AS organisation_queued_limit,
    coalesce(o.max_storage_bytes, :organisation_storage) AS organisation_storage_limit,
    coalesce(o.max_gpu_seconds, :organisation_gpu) AS organisation_gpu_limit,
    (SELECT count(*) FROM jobs WHERE user_id = u.id AND slot IS NOT NULL) AS user_active,
    own.queued_jobs AS user_queued, own.storage_bytes AS user_storage,
    coalesce((
        SELECT seconds FROM gpu_usage g WHERE g.user_id = u.id AND g.month = month.first::date
    ), 0) AS user_gpu,
    (
        SELECT count(*) FROM jobs WHERE organisation_id = o.id AND slot IS NOT NULL
    ) AS organisation_active,
    members.queued_jobs AS organisation_queued, members.storage_bytes AS organisation_storage,
    members.gpu_seconds AS organisation_gpu,
    (month.first + interval '1 month') AT TIME ZONE 'UTC' AS month_ends_at
FROM month CROSS JOIN users u
JOIN organisations o ON o.id = u.organisation_id
JOIN user_usage own ON own.user_id = u.id
CROSS JOIN LATERAL (
    SELECT coalesce(sum(all_of.queued_jobs), 0)::bigint AS queued_jobs,
        coalesce(sum(all_of.storage_bytes), 0)::bigint AS storage_bytes,
        coalesce(sum(g.seconds), 0) AS gpu_seconds
    FROM users member
    JOIN user_usage all_of ON all_of.user_id = member.id
    LEFT JOIN gpu_usage g ON g.user_id = member.id AND g.month = month.first::date
    WHERE member.organisation_id = o.id
) members
WHERE u.id = ANY(CAST(:user_ids AS uuid[]))
""")


def usage_query(settings: Settings, user_ids: Sequence[UUID]) -> tuple[Executable, dict[str, Any]]:
    """The statement that finds quotas and use of some users and of their organisations."""
    return _FIND, {
        "user_ids": list(user_ids),
        "user_active": settings.max_active_jobs_per_user,
        "user_queued": settings.max_queued_jobs_per_user,
        "user_storage": settings.max_storage_bytes_per_user,
        "user_gpu": settings.max_gpu_seconds_per_user,
        "organisation_active": settings.max_active_jobs_per_organisation,
        "organisation_queued": settings.max_queued_jobs_per_organisation,
        "organisation_storage": settings.max_storage_bytes_per_organisation,
        "organisation_gpu": settings.max_gpu_seconds_per_organisation,
    }


async def find_usage(session: AsyncSession, settings: Settings, user_id: UUID) -> Row[Any]:
    """Quotas and use of one user and of the organisation."""
    return (await session.execute(*usage_query(settings, [user_id]))).one()


async def lock_usage(session: AsyncSession, user_id: UUID) -> None:
    """Keep a user's use as it is until the transaction ends."""
    await session.execute(
        select(UserUsage.user_id).where(UserUsage.user_id == user_id).with_for_update()
    )
