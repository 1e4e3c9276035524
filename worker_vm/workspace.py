"""Private folders for runs, removed even when the process that used them was killed."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from worker_vm.logs import get_logger

log = get_logger(__name__)

PREFIX = "pipeline3d-worker-"
LOCK_NAME = ".lock"


class Workspace:
    """A worker's own folder below the work directory.

    The lock on it lives as long as a process of the worker: what a killed worker left behind is
    recognised by its free lock and removed by the next one.
    """

    def __init__(self, parent: Path) -> None:
        parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(parent)
        # Locked before it has the name by which others would look for a free lock.
        unnamed = Path(tempfile.mkdtemp(prefix=".new-", dir=parent))
        self._lock = os.open(unnamed / LOCK_NAME, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.folder = unnamed.rename(parent / (PREFIX + unnamed.name.removeprefix(".new-")))

    def clear(self) -> None:
        """Remove what a killed run left behind; call while nothing runs."""
        for entry in self.folder.iterdir():
            if entry.name != LOCK_NAME:
                shutil.rmtree(entry, ignore_errors=True)

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)


@contextmanager
def private_folder(parent: Path) -> Iterator[Path]:
    """A folder only this user can read, removed with all it holds when the block ends."""
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(parent: Path) -> None:
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):
            lock = os.open(folder / LOCK_NAME, os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
                log.info("workspace.removed", folder=folder.name)
            finally:
                os.close(lock)
