"""The deliverer: a duty of the dispatcher process that sends what is in the outbox.

Many at once, few of them to one destination, so that a host that is slow to answer holds up only
what is meant for itself.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Protocol

from app.config import Settings
from app.db.session import Database
from app.logs import get_logger
from app.notifications.outbox import (
    DueDelivery,
    Outcome,
    announce_channels,
    claim_due,
    delete_old,
    record,
)
from app.notifications.tables import Channel

log = get_logger(__name__)

AT_ONCE = 32
AT_ONCE_EACH = 4
_CLOSE_SECONDS = 5.0
_GATHER_SECONDS = 0.05


class Sender(Protocol):
    """Sends deliveries of a channel."""

    async def send(self, delivery: DueDelivery) -> Outcome:
        """Try once, within a time limit of its own; what went wrong is in the outcome."""
        ...


class Deliverer:
    """Claims what is due and lets it be sent; one of each dispatcher process.

    Args:
        database: where the outbox is.
        settings: when webhooks are disabled, and how long deliveries are kept.
        senders: by channel; none for e-mail while that is not set up.
        at_once: how many deliveries may be under way.
        at_once_each: how many of them to one destination.
    """

    def __init__(
        self,
        database: Database,
        settings: Settings,
        senders: Mapping[Channel, Sender],
        *,
        at_once: int = AT_ONCE,
        at_once_each: int = AT_ONCE_EACH,
    ) -> None:
        self.wake = asyncio.Event()
        """Set when there may be something to do."""
        self._database = database
        self._settings = settings
        self._senders = senders
        self._at_once = at_once
        self._at_once_each = at_once_each
        self._busy: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._waking: asyncio.TimerHandle | None = None

    def wake_soon(self) -> None:
        """Wake it after a moment, once for all that calls meanwhile."""
        if self._waking is None:
            loop = asyncio.get_running_loop()
            self._waking = loop.call_later(_GATHER_SECONDS, self._wake)

    def _wake(self) -> None:
        self._waking = None
        self.wake.set()

    async def run_once(self) -> int:
        """Begin to deliver what is due, as far as there is room; returns how many it was.

        Who waits for one that ends, or for all, looks at `wake` or calls `settle`.
        """
        room = self._at_once - len(self._tasks)
        if room <= 0:
            return 0
        async with self._database.transaction() as session:
            due = await claim_due(session, limit=room, each=self._at_once_each, busy=self._busy)
        for delivery in due:
            self._busy[delivery.destination] += 1
            task = asyncio.create_task(self._deliver(delivery))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return len(due)

    async def settle(self) -> None:
        """Wait until nothing is under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Give what is under way a moment to end; the rest is delivered again by somebody else."""
        if self._waking is not None:
            self._waking.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_CLOSE_SECONDS)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def announce(self) -> int:
        """Say in the database what this process can deliver by; returns 0, for there is no more."""
        async with self._database.transaction() as session:
            await announce_channels(session, email=Channel.EMAIL in self._senders)
        return 0

    async def delete_old(self) -> int:
        """Delete deliveries that have been kept for long enough; returns how many."""
        async with self._database.transaction() as session:
            return await delete_old(session, self._settings.delivery_keep_days)

    async def _deliver(self, delivery: DueDelivery) -> None:
        try:
            outcome = await self._try(delivery)
            async with self._database.transaction() as session:
                ours = await record(
                    session,
                    delivery,
                    outcome,
                    disable_after_days=self._settings.webhook_disable_after_days,
                )
            log.info(
                "delivered" if outcome.error is None else "delivery failed",
                delivery_id=str(delivery.id),
                type=delivery.type,
                destination=delivery.destination,
                attempt=delivery.attempts,
                error=outcome.error,
                superseded=not ours,
            )
        except Exception:
            # The lease will end, and it is tried again.
            log.exception("a delivery could not be recorded", delivery_id=str(delivery.id))
        finally:
            self._busy -= Counter((delivery.destination,))  # keeps no zeros
            self.wake.set()

    async def _try(self, delivery: DueDelivery) -> Outcome:
        if delivery.off:
            return Outcome(
                "The webhook is disabled or was deleted, or its user is deactivated.", final=True
            )
        sender = self._senders.get(delivery.channel)
        if sender is None:
            return Outcome("E-mail is not set up.", final=True)
        try:
            return await sender.send(delivery)
        except Exception:
            log.exception("a delivery could not be made", delivery_id=str(delivery.id))
            return Outcome("Something went wrong on our side.")
