"""`python -m app.queueing`: the dispatcher process. Any number of them may run."""

import argparse
import asyncio
import contextlib
import functools
import signal
import time
from collections.abc import Awaitable, Callable

import uvloop

from app.config import Settings, get_settings
from app.db.session import Database
from app.db.signals import Channel, Signals, first_of
from app.logs import configure_logging, get_logger
from app.notifications.duty import open_deliverer
from app.queueing.dispatcher import Dispatcher
from app.queueing.mover import move_left_behind
from app.queueing.rescuer import rescue_lost_attempts
from app.queueing.retention import (
    abort_abandoned_uploads,
    delete_unused_objects,
    expire_jobs,
)
from app.queueing.rq_queue import RqQueues
from app.sessions.retention import forget_sessions
from app.storage.minio_store import MinioStore

log = get_logger("app.queueing")

_RETENTION_SECONDS = 60.0


async def _repeat(
    name: str,
    duty: Callable[[], Awaitable[int]],
    seconds: float,
    stopping: asyncio.Event,
    wake: asyncio.Event | None = None,
) -> None:
    """Do a duty now, whenever woken, and every so many seconds; again at once if it found work.

    An error is logged and the duty goes on: the database may be back with the next round.
    """
    while not stopping.is_set():
        if wake:
            wake.clear()
        started = time.monotonic()
        try:
            found = await duty()
        except Exception as error:  # noqa: BLE001  (a duty must outlive whatever is down)
            log.warning("duty failed", duty=name, error=f"{type(error).__name__}: {error}"[:500])
            found = 0
        if found and time.monotonic() - started < seconds:
            await asyncio.sleep(0)
            continue
        await first_of(*filter(None, (stopping, wake)), seconds=seconds)


async def run(settings: Settings, stopping: asyncio.Event) -> None:
    """Run every duty until told to stop."""
    signals = Signals(settings.database_dsn)
    database = Database(settings.database_url, signals, pool_size=4)
    queues = RqQueues(settings.redis_url)
    store = MinioStore(settings)
    dispatcher = Dispatcher(database, queues, settings)
    every = settings.dispatch_interval_seconds
    move = functools.partial(move_left_behind, database)
    rescue = functools.partial(rescue_lost_attempts, database, settings)
    expire = functools.partial(expire_jobs, database)
    delete = functools.partial(delete_unused_objects, database, store)
    forget = functools.partial(forget_sessions, database)
    abort = functools.partial(abort_abandoned_uploads, database, store)
    await signals.start()
    log.info("dispatcher started")
    try:
        async with contextlib.AsyncExitStack() as opened:
            work_ready = opened.enter_context(signals.listen(Channel.WORK_READY))
            deliverer = await opened.enter_async_context(open_deliverer(database, settings))
            await asyncio.gather(
                _repeat("dispatch", dispatcher.run_once, every, stopping, work_ready),
                _repeat("push lost", dispatcher.push_lost, every, stopping),
                _repeat("withdraw", dispatcher.withdraw_stranded, 5 * every, stopping),
                _repeat("move", move, 5 * every, stopping),
                _repeat("rescue", rescue, every, stopping),
                _repeat("expire", expire, _RETENTION_SECONDS, stopping),
                _repeat("delete", delete, _RETENTION_SECONDS, stopping),
                _repeat("forget sessions", forget, _RETENTION_SECONDS, stopping),
                _repeat("abort", abort, 5 * every, stopping),
                _repeat("announce", deliverer.announce, _RETENTION_SECONDS, stopping),
                _repeat("deliver", deliverer.run_once, every, stopping, deliverer.wake),
                _repeat("forget deliveries", deliverer.delete_old, _RETENTION_SECONDS, stopping),
            )
    finally:
        await signals.stop()
        await queues.close()
        await store.close()
        await database.close()
        log.info("dispatcher stopped")


def main() -> None:
    """Parse the command line and run until SIGTERM or Ctrl-C."""
    argparse.ArgumentParser(
        prog="python -m app.queueing",
        description="Admits jobs into the RQ queues, rescues lost attempts, deletes what has "
        "expired, and delivers webhooks and e-mail. Settings come from the environment and .env "
        "(see .env.example).",
    ).parse_args()
    settings = get_settings()
    configure_logging(settings, "dispatcher")

    async def supervised() -> None:
        stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
        await run(settings, stopping)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(supervised())


if __name__ == "__main__":
    main()
