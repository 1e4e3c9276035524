"""A worker's private folder: what a killed worker leaves is removed, or delivered, by the next."""

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from worker_vm.logs import get_logger
from worker_vm.spool import is_spooled

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
        # Locked before it has the name by which others would look for a free lock.
        unnamed = Path(tempfile.mkdtemp(prefix=".new-", dir=parent))
        self._lock = os.open(unnamed / LOCK_NAME, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.folder = unnamed.rename(parent / (PREFIX + unnamed.name.removeprefix(".new-")))
        self.spooled = _take_over(parent, self.folder)
        """Folders of finished runs that an earlier worker could not deliver; ours now."""

    def clear(self) -> list[Path]:
        """Remove what a killed run left behind; call while nothing runs.

        Returns:
            What stays: the folders of finished runs that are not delivered yet.
        """
        spooled = []
        for entry in self.folder.iterdir():
            if is_spooled(entry):
                spooled.append(entry)
            elif entry.name != LOCK_NAME:
                shutil.rmtree(entry, ignore_errors=True)
        return spooled

    def close(self) -> None:
        """Remove the folder, unless something in it is still to be delivered by the next worker."""
        if not self.clear():
            shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)


def _take_over(parent: Path, target: Path) -> list[Path]:
    """Move what dead workers could not deliver into `target`, and remove all else of theirs."""
    taken = []
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):
            if folder.lstat().st_uid != os.geteuid():
                continue  # another user's, in a folder that all may write to
            lock = os.open(folder / LOCK_NAME, os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                taken += [
                    run.rename(target / run.name) for run in folder.iterdir() if is_spooled(run)
                ]
                shutil.rmtree(folder, ignore_errors=True)
                log.info("workspace.removed", folder=folder.name, spooled=len(taken))
            finally:
                os.close(lock)
    return taken
