"""Run a decoder on hostile bytes in a child process with as few means as possible.

The child is one of our own modules. It imports what it needs, calls `confine` and only then
looks at the input, which it reads from stdin; its answer goes to stdout, a file or a pipe. After
`confine` it can open no file and no socket, start no process, and its memory, CPU time and output
are limited.

It still runs as the worker's user. Where user namespaces are refused (Docker's default), code that
took the decoder over could send signals to that user's other processes, or trace those that allow
it; run the worker under an account of its own.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import re
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import IO, Self

_PROJECT_ROOT = Path(__file__).resolve().parents[1]

# linux/prctl.h and linux/sched.h
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000

_IDLE_SECONDS = 0.5
_CHUNK = 1 << 20
_PAGE_BYTES = resource.getpagesize()


class Limit(Enum):
    """A limit that a child can run into."""

    TIME = "time"
    OUTPUT = "output"


class SandboxError(Exception):
    """The confined child crashed or hit one of its limits.

    Args:
        message: completes "could not be decoded: …".
        limit: the one it hit, if it is known.
    """

    def __init__(self, message: str, limit: Limit | None = None) -> None:
        super().__init__(message)
        self.limit = limit


@dataclass(frozen=True)
class Limits:
    """What a confined child may use."""

    memory_bytes: int
    """Address space on top of what the child has mapped when it is confined."""
    cpu_seconds: int
    """CPU time on top of what its imports have used."""
    output_bytes: int
    """Size of the largest file it may write, its stdout included."""
    wall_seconds: float
    """Wall-clock time from start to exit."""
    threads: int = 1
    """How many threads it may have, where that can be limited (see `confine`)."""


class ConfinedChild:
    """`python -m module` between two files; leaving the `with` ends it.

    Args:
        module: one of our own modules, which calls `confine(limits_from_argv())` after its imports.
        stdin: file, or descriptor of what the child reads.
        stdout: file the child writes, or `subprocess.PIPE` for what is read by `read`.
        limits: what the child may use.
        request: what it is to do, for `request_from_argv`.
    """

    def __init__(
        self,
        module: str,
        *,
        stdin: IO[bytes] | int,
        stdout: IO[bytes] | int,
        limits: Limits,
        request: str = "",
    ) -> None:
        self._limits = limits
        self._deadline = time.monotonic() + limits.wall_seconds
        # The imports look nowhere but at the project and the interpreter's own packages.
        self._process = subprocess.Popen(  # noqa: S603  (our own interpreter and module)
            [sys.executable, "-E", "-s", "-m", module, json.dumps(asdict(limits)), request],
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.DEVNULL,
            cwd=_PROJECT_ROOT,
            env={"LC_ALL": "C.UTF-8", "MALLOC_ARENA_MAX": "1"},
            start_new_session=True,
        )
        if self._process.stdout is not None:
            # Frames are large. The kernel may refuse; then they come in smaller pieces.
            with contextlib.suppress(OSError):
                fcntl.fcntl(self._process.stdout, fcntl.F_SETPIPE_SZ, _CHUNK)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def read(self, size: int, idle: Callable[[], None]) -> bytes:
        """Exactly so many bytes of its answer, or fewer at its end.

        Args:
            size: how many.
            idle: called every half second while nothing comes; raises to give up.

        Raises:
            SandboxError: its time is up.
        """
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        parts, missing = [], size
        while missing:
            if time.monotonic() > self._deadline:
                raise self._too_slow()
            if not select.select([descriptor], [], [], _IDLE_SECONDS)[0]:
                idle()
                continue
            part = os.read(descriptor, min(missing, _CHUNK))
            if not part:
                break
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def peak_memory_bytes(self) -> int:
        """The most memory that it has held so far; 0 once it has ended."""
        try:
            status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
        except OSError:
            return 0
        found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
        return int(found[1]) * 1024 if found else 0

    def wait(self) -> None:
        """Wait for its end.

        Raises:
            SandboxError: it was killed, timed out or left with a status other than 0.
        """
        try:
            status = self._process.wait(max(self._deadline - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            raise self._too_slow() from None
        limits = self._limits
        if status == -signal.SIGXCPU:
            raise SandboxError(
                f"it took more than {limits.cpu_seconds} seconds of CPU time", Limit.TIME
            )
        if status == -signal.SIGXFSZ:
            raise SandboxError(
                f"it is larger than {limits.output_bytes} bytes once decoded", Limit.OUTPUT
            )
        if status < 0:
            raise SandboxError(f"the decoder was ended by {signal.Signals(-status).name}")
        if status > 0:
            raise SandboxError(f"the decoder gave up with status {status}")

    def _too_slow(self) -> SandboxError:
        return SandboxError(f"it took more than {self._limits.wall_seconds:g} seconds", Limit.TIME)


def run_confined(module: str, *, stdin: Path, stdout: Path, limits: Limits) -> None:
    """Run `python -m module` between two files and wait for it.

    Args:
        module: see `ConfinedChild`.
        stdin: file the child reads.
        stdout: file the child writes; made anew.
        limits: what the child may use.

    Raises:
        SandboxError: it was killed, timed out or left with a status other than 0.
    """
    with (
        stdin.open("rb") as source,
        stdout.open("wb") as sink,
        ConfinedChild(module, stdin=source, stdout=sink, limits=limits) as child,
    ):
        child.wait()


def request_from_argv() -> str:
    """Return what `ConfinedChild` was told this child is to do."""
    return sys.argv[2]


def limits_from_argv() -> Limits:
    """Return the limits that `run_confined` passed to this child."""
    return Limits(**json.loads(sys.argv[1]))


def confine(limits: Limits) -> int:
    """Give up, for the rest of this process, all that decoding does not need.

    Import every module first: nothing can be opened any more.

    Returns:
        How many threads it may have: more than one only in a user namespace, since elsewhere their
        number is limited for all processes of the user together.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # A user namespace also takes root's power to lift the limits below. Containers may forbid it;
    # without it no socket can be opened either, for want of a file descriptor.
    alone = libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0
    threads = limits.threads if alone else 1

    mapped = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * _PAGE_BYTES
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu = int(used.ru_utime + used.ru_stime) + 1 + limits.cpu_seconds
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it and would tell less
    for kind, soft, hard in (
        (resource.RLIMIT_AS, mapped + limits.memory_bytes, mapped + limits.memory_bytes),
        (resource.RLIMIT_CPU, cpu, cpu + 1),  # SIGXCPU first, which names the reason
        (resource.RLIMIT_FSIZE, limits.output_bytes, limits.output_bytes),
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_NPROC, *([threads if threads > 1 else 0] * 2)),
        (resource.RLIMIT_NOFILE, 0, 0),
    ):
        resource.setrlimit(kind, (soft, hard))
    return threads
