"""The fleet: recording what workers say of themselves, and counting who can take what."""

from collections.abc import Collection
from dataclasses import dataclass, field

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.base import seconds
from app.db.session import signal_after_commit
from app.db.signals import Channel, Signal
from app.workers.tables import Worker
from contract.workers import WorkerHeartbeat

REPORT_EVERY_SECONDS = 30
_FORGET_AFTER_SECONDS = 7 * 86400


@dataclass(frozen=True)
class LiveWorker:
    """A worker that has reported lately and takes new work."""

    name: str
    queue: str
    runnable: frozenset[str]
    warm: frozenset[str]


@dataclass(frozen=True)
class Fleet:
    """All live workers."""

    workers: list[LiveWorker] = field(default_factory=list)

    def on_queue(self, queue: str) -> int:
        """How many workers take from a queue."""
        return sum(worker.queue == queue for worker in self.workers)

    def serving(self, queue: str, pipeline: str) -> int:
        """How many workers take from a queue and can run a pipeline."""
        return sum(w.queue == queue and pipeline in w.runnable for w in self.workers)

    def warm(self, queue: str, pipeline: str) -> int:
        """How many workers of a queue have a pipeline loaded."""
        return sum(w.queue == queue and pipeline in w.warm for w in self.workers)

    @property
    def queues(self) -> Collection[str]:
        """Every queue that somebody takes from."""
        return sorted({worker.queue for worker in self.workers})


async def record_heartbeat(session: AsyncSession, report: WorkerHeartbeat) -> None:
    """Keep what a worker says of itself; a new worker wakes the dispatcher."""
    runnable = [pipeline.name for pipeline in report.pipelines if pipeline.runnable]
    values = {
        **report.model_dump(exclude={"protocol", "gpus", "pipelines"}),
        "gpus": [gpu.model_dump(mode="json") for gpu in report.gpus],
        "pipelines": [pipeline.model_dump(mode="json") for pipeline in report.pipelines],
        "runnable": runnable,
        "warm": [pipeline.name for pipeline in report.pipelines if pipeline.warm],
        "last_seen_at": func.now(),
    }
    statement = insert(Worker).values(values)
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["name"], set_={key: values[key] for key in values if key != "name"}
        )
    )
    await session.execute(
        delete(Worker).where(Worker.last_seen_at < func.now() - seconds(_FORGET_AFTER_SECONDS))
    )
    signal_after_commit(session, Signal(Channel.WORK_READY, report.queue))


async def live_fleet(session: AsyncSession, live_seconds: float) -> Fleet:
    """The workers that have reported within so many seconds and are not stopping."""
    rows = await session.execute(
        select(Worker.name, Worker.queue, Worker.runnable, Worker.warm).where(
            Worker.last_seen_at > func.now() - seconds(live_seconds), ~Worker.stopping
        )
    )
    return Fleet(
        [
            LiveWorker(row.name, row.queue, frozenset(row.runnable), frozenset(row.warm))
            for row in rows
        ]
    )
