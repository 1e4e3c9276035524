"""Telling the worker of a job that was cancelled, sooner than its next heartbeat would."""

from fastapi import BackgroundTasks
from sqlalchemy.ext.asyncio import AsyncSession

from app.jobs import service
from app.jobs.tables import Job
from app.queueing.rq_queue import WorkerCommands


async def stop_worker_soon(
    session: AsyncSession, job: Job, commands: WorkerCommands, background: BackgroundTasks
) -> None:
    """Have a command sent to the job's worker, if one runs it, after the request's commit."""
    attempt = await service.running_attempt(session, job)
    if attempt is not None:
        background.add_task(commands.stop, attempt.worker_name or "", attempt.id)
