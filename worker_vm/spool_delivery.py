"""A thread that delivers, at a worker's start, what an earlier one had finished and could not."""

import threading
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue

from worker_vm.logs import get_logger
from worker_vm.runner import RunHost, deliver_spooled

log = get_logger(__name__)


class SpoolDelivery:
    """Delivers finished runs beside the worker's own.

    Args:
        run_host: how attempts are delivered.
        folders: their folders.
    """

    def __init__(self, run_host: RunHost, folders: list[Path]) -> None:
        # A mailbox of its own: commands for the worker's run are not for these.
        self._run_host = replace(run_host, mailbox=SimpleQueue())
        self._folders = folders
        self._stopping = False
        self._thread = threading.Thread(target=self._deliver, name="spool", daemon=True)

    def start(self) -> None:
        """Begin, if there is anything to deliver."""
        if self._folders:
            self._thread.start()

    def stop(self) -> None:
        """Leave the rest to the next start."""
        self._stopping = True
        self._run_host.shut_down()
        if self._thread.is_alive():
            self._thread.join()

    def _deliver(self) -> None:
        for folder in self._folders:
            if self._stopping:
                return
            try:
                outcome = deliver_spooled(self._run_host, folder)
                log.info("spool.delivered", outcome=outcome)
            except Exception:
                # One that cannot be delivered must not keep the others.
                log.exception("spool.broken")
