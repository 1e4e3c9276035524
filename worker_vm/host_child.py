"""A pipeline host as a process of the worker's: started below its guard, killed, put away."""

import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from worker_vm.companion import PYTHON_SETTING
from worker_vm.host_output import HostOutput
from worker_vm.host_protocol import Channel

_SEND_TIMEOUT = struct.pack("ll", 5, 0)
"""Seconds and microseconds that one message may take to be taken."""
_KILL_SECONDS = 5.0
"""What the guard gets to kill all that a host has started."""
_ROOT = Path(__file__).resolve().parent.parent
_SECRETS = ("REDIS_URL", "API_URL", "WORKER_API_KEY", "DATABASE_URL", "SECRET_KEY")
_SECRET_GROUPS = ("MINIO_", "FIRST_SUPERUSER_", "RQ_DASHBOARD_")
"""Of no use to a pipeline, and of much to whoever takes it over."""


class HostStartError(Exception):
    """A host could not be started."""


@dataclass(frozen=True)
class HostExit:
    """How a host ended."""

    status: int
    """As `subprocess` has it: negative for a signal."""
    peak_memory_mib: int
    last_lines: list[str] = field(default_factory=list)

    def describe(self) -> str:
        """The end in words."""
        if self.status < 0:
            try:
                name = signal.Signals(-self.status).name
            except ValueError:
                name = f"signal {-self.status}"
            return f"was ended by {name}"
        return f"exited with status {self.status}"


class HostChild:
    """The guard of one host (`host_guard`), which ends when the host does, and as it does.

    Args:
        python: the interpreter.
        environment: of the process.

    Raises:
        HostStartError: there is no such program.
    """

    def __init__(self, python: str, environment: Mapping[str, str]) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = subprocess.Popen(  # noqa: S603  (our own module)
                    [python, "-m", "worker_vm.pipeline_host", str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    # A group of its own, out of the terminal's Ctrl-C.
                    start_new_session=True,
                )
            except OSError as error:
                ours.close()
                raise HostStartError(f"{python} cannot be started: {error}") from error
        self.pid = self._process.pid
        self.pidfd = os.pidfd_open(self.pid)
        # One that does not read must not hold us up for long.
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _SEND_TIMEOUT)
        self.channel = Channel(ours)
        assert self._process.stdout is not None
        self.output = HostOutput(self._process.stdout.fileno(), self.pidfd)

    def has_ended(self, within: float = 0) -> bool:
        """Whether it is dead, or is so many seconds later."""
        return select_readable(self.pidfd, within)

    def kill(self, *, guarded: bool) -> HostExit:
        """Kill it with all it has started; how it ended.

        Args:
            guarded: whether it has come so far that its guard does this, in whatever group or
                session it is to be done.
        """
        self.channel.hang_up()
        if not (guarded and self.has_ended(_KILL_SECONDS)):
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        return self.put_away()

    def put_away(self) -> HostExit:
        """Wait for its end and close everything."""
        _, status, usage = os.wait4(self.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        # If it was the guard that was killed, there may be something left.
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        last_lines = self.output.finish()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self.channel.close()
        os.close(self.pidfd)
        return HostExit(self._process.returncode, usage.ru_maxrss // 1024, last_lines)


def select_readable(descriptor: int, seconds: float) -> bool:
    """Whether a descriptor becomes readable within so many seconds."""
    with selectors.PollSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        return bool(selector.select(seconds))


def host_environment(inherited: Mapping[str, str], pipelines: list[str]) -> dict[str, str]:
    """The worker's environment without its secrets, and what the host has to know."""
    environment = {
        name: value
        for name, value in inherited.items()
        if name.upper() not in _SECRETS and not name.upper().startswith(_SECRET_GROUPS)
    }
    path = environment.get("PYTHONPATH")
    return {
        **environment,
        "PYTHONPATH": f"{_ROOT}{os.pathsep}{path}" if path else str(_ROOT),
        "PYTHONUNBUFFERED": "1",
        PYTHON_SETTING: sys.executable,
        "WORKER_HOST_PIPELINES": " ".join(pipelines),
    }
