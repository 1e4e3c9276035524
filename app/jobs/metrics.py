"""Numbers over jobs: how many, how long they waited and ran."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts.principal import Principal
from app.accounts.roles import Permission
from app.jobs.lifecycle import JobStatus
from app.jobs.schemas import Durations, MetricsOut
from app.jobs.tables import Job


async def job_metrics(session: AsyncSession, principal: Principal, window_hours: int) -> MetricsOut:
    """Counts, waits, run times and throughput of jobs created within so many hours.

    Raises:
        ForbiddenError: a key was shown whose scopes don't include reading.
    """
    principal.require(Permission.READ_OWN_JOBS)
    since = datetime.now(UTC) - timedelta(hours=window_hours)
    scope = [Job.organisation_id == principal.organisation_id, Job.created_at >= since]
    if not principal.may(Permission.READ_ALL_JOBS):
        scope.append(Job.user_id == principal.user_id)
    counts = dict.fromkeys(JobStatus, 0)
    rows = await session.execute(
        select(Job.status, func.count()).where(*scope).group_by(Job.status)
    )
    for status, count in rows:
        counts[JobStatus(status)] = count
    ended = [*scope, Job.started_at.is_not(None)]
    waits = await _durations(session, Job.started_at - Job.created_at, ended)
    ended = [*ended, Job.completed_at.is_not(None), Job.completed_at > Job.started_at]
    runs = await _durations(session, Job.completed_at - Job.started_at, ended)
    completed = counts[JobStatus.SUCCEEDED]
    return MetricsOut(
        window_hours=window_hours,
        since=since,
        by_status=counts,
        wait_seconds=waits,
        run_seconds=runs,
        completed=completed,
        completed_per_hour=round(completed / window_hours, 3),
    )


async def _durations(
    session: AsyncSession, duration: ColumnElement[Any], conditions: list[ColumnElement[bool]]
) -> Durations:
    seconds = func.extract("epoch", duration)
    row = (
        await session.execute(
            select(
                func.percentile_cont(0.5).within_group(seconds),
                func.percentile_cont(0.95).within_group(seconds),
            ).where(*conditions)
        )
    ).one()
    return Durations(
        p50=None if row[0] is None else round(row[0], 3),
        p95=None if row[1] is None else round(row[1], 3),
    )
