"""Run a decoder on hostile bytes in a child process with as few means as possible.

The child is one of our own modules. It imports what it needs, calls `confine` and only then looks
at the input, which it reads from stdin; its answer goes to stdout. After `confine` it can open no
file and no socket, start no process, and its memory, CPU time and output are limited.

It still runs as the worker's user. Where user namespaces are refused (Docker's default), code that
took the decoder over could send signals to that user's other processes, or trace those that allow
it; run the worker under an account of its own.
"""

import contextlib
import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

_PROJECT_ROOT = Path(__file__).resolve().parents[1]

# linux/prctl.h and linux/sched.h
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000

_PAGE_BYTES = resource.getpagesize()


class SandboxError(Exception):
    """The confined child crashed or hit one of its limits."""


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


def run_confined(module: str, *, stdin: Path, stdout: Path, limits: Limits) -> None:
    """Run `python -m module` between two files and wait for it.

    Args:
        module: one of our own modules, which calls `confine(limits_from_argv())` after its imports.
        stdin: file the child reads.
        stdout: file the child writes; made anew.
        limits: what the child may use.

    Raises:
        SandboxError: it was killed, timed out or left with a status other than 0.
    """
    with stdin.open("rb") as source, stdout.open("wb") as sink:
        # The imports look nowhere but at the project and the interpreter's own packages.
        child = subprocess.Popen(  # noqa: S603  (our own interpreter and module)
            [sys.executable, "-E", "-s", "-m", module, json.dumps(asdict(limits))],
            stdin=source,
            stdout=sink,
            stderr=subprocess.DEVNULL,
            cwd=_PROJECT_ROOT,
            env={"LC_ALL": "C.UTF-8", "MALLOC_ARENA_MAX": "1"},
            start_new_session=True,
        )
        try:
            status = child.wait(timeout=limits.wall_seconds)
        except subprocess.TimeoutExpired:
            raise SandboxError(f"it took more than {limits.wall_seconds:g} seconds") from None
        finally:
            if child.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()
    if status == -signal.SIGXCPU:
        raise SandboxError(f"it took more than {limits.cpu_seconds} seconds of CPU time")
    if status == -signal.SIGXFSZ:
        raise SandboxError(f"it is larger than {limits.output_bytes} bytes once decoded")
    if status < 0:
        raise SandboxError(f"the decoder was ended by {signal.Signals(-status).name}")
    if status > 0:
        raise SandboxError(f"the decoder gave up with status {status}")


def limits_from_argv() -> Limits:
    """Return the limits that `run_confined` passed to this child."""
    return Limits(**json.loads(sys.argv[1]))


def confine(limits: Limits) -> None:
    """Give up, for the rest of this process, all that decoding does not need.

    Import every module first: nothing can be opened any more.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # A user namespace also takes root's power to lift the limits below. Containers may forbid it;
    # without it no socket can be opened either, for want of a file descriptor.
    libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET)

    mapped = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * _PAGE_BYTES
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu = int(used.ru_utime + used.ru_stime) + 1 + limits.cpu_seconds
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it and would tell less
    for kind, soft, hard in (
        (resource.RLIMIT_AS, mapped + limits.memory_bytes, mapped + limits.memory_bytes),
        (resource.RLIMIT_CPU, cpu, cpu + 1),  # SIGXCPU first, which names the reason
        (resource.RLIMIT_FSIZE, limits.output_bytes, limits.output_bytes),
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_NPROC, 0, 0),
        (resource.RLIMIT_NOFILE, 0, 0),
    ):
        resource.setrlimit(kind, (soft, hard))
