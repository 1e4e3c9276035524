"""The process between the worker and a pipeline host, so that nothing outlives the host.

Linux hands orphans to the nearest "subreaper" above them (prctl(2)). The guard is one for a single
host: whatever a pipeline starts, in a session of its own or not, stays below the guard for life. So
when the host has ended, or the worker is gone or has hung up, the guard kills all that is left, and
ends as the host did. It also takes the exit status of every orphan, so that a worker that is the
first process of a container collects no zombies.

Standard library only.
"""

import ctypes
import os
import resource
import select
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_KILL_SECONDS = 4.0
"""What is killed may stand in the kernel for long; nobody is kept waiting for that."""


def become_host(connection: int) -> None:
    """Fork, and return in the child, the host-to-be; this process becomes its guard.

    Args:
        connection: the host's end of the connection to the worker, whose end is the host's end.
    """
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    guard = os.getpid()
    host = os.fork()
    if host:
        _guard(host, connection)
    libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != guard:
        os._exit(1)


def _guard(host: int, connection: int) -> NoReturn:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    told, telling = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(telling, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    poller = select.poll()
    poller.register(told, select.POLLIN)
    poller.register(connection, 0)  # the other end's end is always told
    status = None
    while status is None:
        ended, _ = _reap()
        status = ended.get(host)
        if status is None:
            if connection in dict(poller.poll()):
                break
            os.read(told, 4096)
    poller.unregister(connection)
    deadline = time.monotonic() + _KILL_SECONDS
    while time.monotonic() < deadline:
        ended, any_left = _reap()
        status = ended.get(host, status)
        if not any_left:
            break
        for pid in _descendants(os.getpid()):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if poller.poll(100):
            os.read(told, 4096)
    _end_as(signal.SIGKILL if status is None else status)


def _reap() -> tuple[dict[int, int], bool]:
    """The statuses of the children that have ended, and whether any child is left."""
    ended: dict[int, int] = {}
    try:
        while (found := os.waitpid(-1, os.WNOHANG)) != (0, 0):
            ended[found[0]] = found[1]
    except ChildProcessError:
        return ended, False
    return ended, True


def _descendants(root: int) -> list[int]:
    """Every process below one."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):  # noqa: PTH208  (names are enough, a thousand of them)
        if entry.isdecimal():
            with suppress(OSError):
                parent = Path(f"/proc/{entry}/stat").read_bytes().rpartition(b")")[2].split()[1]
                children.setdefault(int(parent), []).append(int(entry))
    found: list[int] = []
    waiting = [root]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def _end_as(status: int) -> NoReturn:
    """End with another process's wait status."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        # The core, if any is wanted, is the host's.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with suppress(OSError):  # SIGKILL has no handler
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status))
