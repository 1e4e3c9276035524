"""A thread that delivers what runs have finished and their worker could not deliver at once."""

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue

from worker_vm.backoff import RetryPolicy
from worker_vm.delivery import UNDELIVERED
from worker_vm.logs import get_logger
from worker_vm.runner import RunHost, deliver_spooled
from worker_vm.spool import is_spooled

log = get_logger(__name__)

RETRY = RetryPolicy(first_wait=10, longest_wait=300)
"""The first time before the attempt's lease is over."""


@dataclass
class _Waiting:
    """One folder's next try."""

    due: float
    failures: int


class SpoolDelivery:
    """Delivers finished runs beside the worker's own, again and again until somebody has them.

    Args:
        run_host: how attempts are delivered.
        left_over: folders of an earlier worker; they are tried at once.
        retry: how long to wait between two tries.
    """

    def __init__(
        self, run_host: RunHost, left_over: Iterable[Path] = (), retry: RetryPolicy = RETRY
    ) -> None:
        # A mailbox of its own: commands for the worker's run are not for these.
        self._run_host = replace(run_host, mailbox=SimpleQueue())
        self._retry = retry
        self._waiting = {folder: _Waiting(due=0, failures=0) for folder in left_over}
        self._inbox: SimpleQueue[Path | None] = SimpleQueue()
        self._stopping = False
        self._thread = threading.Thread(target=self._loop, name="spool", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def take(self, folders: Iterable[Path]) -> None:
        """Deliver these too, a while after they could not be; ones that are known already stay."""
        for folder in folders:
            self._inbox.put(folder)

    def stop(self) -> None:
        """Leave the rest to the next start."""
        self._stopping = True
        self._run_host.shut_down()
        self._inbox.put(None)
        self._thread.join()

    def _loop(self) -> None:
        while not self._stopping:
            now = time.monotonic()
            for folder in [name for name, wait in self._waiting.items() if wait.due <= now]:
                if self._stopping:
                    return
                self._try(folder)
            self._receive()

    def _receive(self) -> None:
        """Wait for another folder, at most until the next try."""
        due = min((waiting.due for waiting in self._waiting.values()), default=None)
        try:
            folder = self._inbox.get(
                timeout=None if due is None else max(0.0, due - time.monotonic())
            )
        except Empty:
            return
        # One that is known may be told again, and even when it has just been delivered.
        if folder is not None and folder not in self._waiting and is_spooled(folder):
            self._waiting[folder] = _Waiting(time.monotonic() + self._retry.wait(1), 1)

    def _try(self, folder: Path) -> None:
        try:
            outcome = deliver_spooled(self._run_host, folder)
        except Exception:
            # One that cannot be delivered must not keep the others.
            log.exception("spool.broken")
            outcome = UNDELIVERED
        if outcome != UNDELIVERED:
            del self._waiting[folder]
            log.info("spool.delivered", outcome=outcome)
            return
        waiting = self._waiting[folder]
        waiting.failures += 1
        wait = self._retry.wait(waiting.failures)
        waiting.due = time.monotonic() + wait
        log.warning("spool.waits", folder=folder.name, wait_seconds=round(wait, 1))
