"""When a job began: every no-op, ours and the peers', sends one datagram and does nothing else."""

import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path

SOCKET_SETTING = "BENCH_SOCKET"


@dataclass(frozen=True)
class Start:
    """The beginning of one job."""

    number: int
    at_ns: int
    """`time.monotonic_ns()`, which all processes of a machine share."""
    wall_seconds: float
    pid: int


def tell(number: int, address: str | None = None) -> None:
    """Say that a job begins now."""
    now = f"{number} {time.monotonic_ns()} {time.time()!r} {os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(now.encode(), address or os.environ[SOCKET_SETTING])


class Ear:
    """Hears what `tell` says.

    Args:
        path: of the socket; short, since the kernel allows about a hundred characters.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))

    def next(self, seconds: float) -> Start:
        """The next beginning.

        Raises:
            TimeoutError: nothing began.
        """
        self._socket.settimeout(seconds)
        number, at_ns, wall, pid = self._socket.recv(256).split()
        return Start(int(number), int(at_ns), float(wall), int(pid))

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
