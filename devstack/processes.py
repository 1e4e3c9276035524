"""The platform's own processes: start, wait until ready, follow their logs, stop, kill."""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from devstack import spawn
from devstack.errors import DevstackError

READY_SECONDS = 90.0


class Service:
    """One process of the platform. Its output goes to `log_path`; nothing restarts it by itself."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str],
        cwd: Path,
        log_path: Path,
        ready: Callable[[int], bool] = lambda _pid: True,
        stop_seconds: float = 20,
    ) -> None:
        self.name = name
        self.log_path = log_path
        self._command = command
        self._env = dict(env)
        self._cwd = cwd
        self._ready = ready
        self._stop_seconds = stop_seconds
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id, also after it ended."""
        if self._process is None:
            raise DevstackError(f"{self.name} has not been started.")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def status(self) -> int | None:
        """Its exit status, negative for a signal; None while it lives or before it starts."""
        return None if self._process is None else self._process.poll()

    def start(self, *, wait: bool = True) -> Self:
        """Start it and, if `wait`, return when it is ready.

        Raises:
            DevstackError: it ended or did not become ready; with the end of its log.
        """
        spawn.wait_if_going(self._process)
        if not self.running:
            self.log_path.parent.mkdir(parents=True, exist_ok=True)
            with self.log_path.open("ab") as log:
                self._process = spawn.spawn(self._command, env=self._env, cwd=self._cwd, output=log)
        if wait:
            self.wait_until_ready()
        return self

    def run(self) -> int:
        """Run it to its end; answers its exit status. Interrupted, it leaves nothing running."""
        self.start(wait=False)
        assert self._process is not None
        try:
            return self._process.wait()
        finally:
            self.kill()

    def wait_until_ready(self) -> None:
        """Return when it does its work; see `start`."""
        deadline = time.monotonic() + READY_SECONDS
        while True:
            if not self.running:
                raise DevstackError(self.describe_end())
            if self._ready(self.pid):
                return
            if time.monotonic() > deadline:
                raise DevstackError(
                    f"{self.name} is not ready after {READY_SECONDS:.0f} s. "
                    f"Its log ({self.log_path}) ends with:\n{self.log_tail()}"
                )
            time.sleep(0.05)

    def stop(self) -> None:
        """SIGTERM, then SIGKILL if it takes too long. Stopping a stopped service is fine."""
        if self._process is not None:
            spawn.end(self._process, polite=signal.SIGTERM, seconds=self._stop_seconds)

    def kill(self) -> None:
        """SIGKILL, as a crash or the kernel's memory killer would."""
        if self.running:
            assert self._process is not None
            spawn.kill(self._process)

    def send_signal(self, number: signal.Signals) -> None:
        """Send it any signal, such as SIGSTOP."""
        if self.running:
            assert self._process is not None
            self._process.send_signal(number)

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of its log."""
        if not self.log_path.exists():
            return "(no log)"
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])

    def describe_end(self) -> str:
        """A sentence about how it ended, and its last lines."""
        return (
            f"{self.name} ended with status {self.status}. "
            f"Its log ({self.log_path}) ends with:\n{self.log_tail()}"
        )


class LogFollower:
    """Complete lines of several growing files, from their beginnings."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = dict(files)
        self._offsets = dict.fromkeys(files, 0)

    def new_lines(self) -> Iterator[tuple[str, str]]:
        """`(name, line)` for what has been written since the last call."""
        for name, path in self._files.items():
            if not path.exists():
                continue
            with path.open("rb") as file:
                file.seek(self._offsets[name])
                text = file.read()
            complete = text[: text.rfind(b"\n") + 1]
            self._offsets[name] += len(complete)
            for line in complete.decode(errors="replace").splitlines():
                yield name, line
