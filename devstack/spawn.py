"""Start child processes that never outlive us, and end them for certain."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import psutil  # type: ignore[import-untyped]

GUARD = Path(__file__).with_name("guard.py")


def guarded(
    command: Sequence[str | Path], *, death_signal: signal.Signals, account: str | None = None
) -> list[str]:
    """`command` wrapped so that it gets `death_signal` when the calling thread ends.

    Linux ties the signal to the *thread*: start long-lived processes from one that stays.
    """
    return [
        *(sys.executable, "-I", "-S", str(GUARD)),
        *(str(os.getpid()), str(int(death_signal)), account or "-", "--"),
        *map(str, command),
    ]


def spawn(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    output: IO[bytes] | int = subprocess.DEVNULL,
    death_signal: signal.Signals = signal.SIGKILL,
    account: str | None = None,
) -> subprocess.Popen[bytes]:
    """Start `command` in a session of its own, so that Ctrl-C reaches only us."""
    return subprocess.Popen(
        guarded(command, death_signal=death_signal, account=account),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=env,
        cwd=cwd,
        start_new_session=True,
    )


def descendants(pid: int) -> list[psutil.Process]:
    """All processes below `pid`; empty when it is gone."""
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def end(process: subprocess.Popen[bytes], *, polite: signal.Signals, seconds: float) -> None:
    """Ask `process` to end, insist after `seconds`, and leave none of its children either."""
    if process.poll() is None:
        children = descendants(process.pid)
        process.send_signal(polite)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            children += descendants(process.pid)
            process.kill()
            process.wait()
        reap(children, seconds=1)


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL `process`, wait until it and the children it leaves behind are gone."""
    children = descendants(process.pid)
    process.kill()
    process.wait()
    reap(children)


def reap(processes: Sequence[psutil.Process], *, seconds: float = 5) -> None:
    """Wait for `processes` to end by themselves, then kill those that have not."""
    deadline = time.monotonic() + seconds
    alive = [process for process in processes if _lives(process)]
    while alive and time.monotonic() < deadline:
        time.sleep(0.02)
        alive = [process for process in alive if _lives(process)]
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def wait_gone(pid: int, *, seconds: float) -> bool:
    """Whether `pid` ended within `seconds`."""
    deadline = time.monotonic() + seconds
    while started_at(pid) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def wait_if_going(process: subprocess.Popen[bytes] | None) -> None:
    """Wait for a process that was killed and whose last threads are just going.

    Until then it can be neither reaped nor told from one that lives by its parent.
    """
    if process is not None and process.poll() is None and started_at(process.pid) is None:
        process.wait()


def started_at(pid: int) -> float | None:
    """When process `pid` started, which tells it from a later one of the same id; None if gone."""
    try:
        process = psutil.Process(pid)
        return float(process.create_time()) if _lives(process) else None
    except psutil.NoSuchProcess:
        return None


def listens(pid: int, port: int) -> bool:
    """Whether it is process `pid` that listens on `port`, and not somebody else."""
    try:
        connections = psutil.Process(pid).net_connections(kind="tcp")
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True  # another account's process, in a container that hides it; nobody can tell
    return any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in connections)


def _lives(process: psutil.Process) -> bool:
    """Whether it runs. Where process 1 does not collect orphans, dead ones stay as zombies."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
