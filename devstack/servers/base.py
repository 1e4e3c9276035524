"""What all embedded servers share: start, wait until it answers, stop, kill."""

import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Self

from devstack import ports, spawn
from devstack.errors import DevstackError

START_SECONDS = 60.0
PORT_TRIES = 5


class EmbeddedServer(ABC):
    """A server process whose data lives in `folder`.

    It listens on 127.0.0.1 at `port`, or with `may_move` at any free one if that is taken; without
    `port`, a free one is found. What was found at the first start is kept, so that clients find the
    server again after a restart. It stops when the thread that started it
    ends, whatever ends it. Usable as a context manager.
    """

    name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    stop_seconds: ClassVar[float] = 20

    def __init__(self, folder: Path, *, port: int | None = None, may_move: bool = False) -> None:
        self.folder = folder.resolve()
        self.log_path = self.folder / f"{self.name}.log"
        self._port = port
        self._may_move = may_move or port is None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """The address clients use, with credentials where the kind of server has them in URLs."""

    @abstractmethod
    def command(self) -> list[str | Path]:
        """The program and its arguments."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether the server answers a real request now."""

    def prepare(self) -> None:  # noqa: B027  (most servers need none)
        """Make what must exist before the first start."""

    def environment(self) -> Mapping[str, str] | None:
        """The process's environment; None is ours."""
        return None

    def account(self) -> str | None:
        """The account to run as; None is ours."""
        return None

    @property
    def port(self) -> int:
        """Where it listens; chosen at the first start unless given."""
        if self._port is None:
            self._port = ports.free_port()
        return self._port

    @property
    def pid(self) -> int:
        """The server's process id."""
        if self._process is None:
            raise DevstackError(f"{self.name} has not been started.")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start it and wait until it answers.

        Raises:
            DevstackError: it does not answer, or ended; with the end of its log.
        """
        spawn.wait_if_going(self._process)
        if self.running:
            return self
        self.folder.mkdir(parents=True, exist_ok=True)
        self._wait_for_predecessor()
        self.prepare()
        for attempt in range(1, PORT_TRIES + 1):
            if self._may_move and self._port is not None:
                self._port = ports.prefer(self._port)
            self._launch()
            try:
                self._wait_until_it_answers()
            except DevstackError:
                self.kill()
                # Somebody may have taken the free port before the server did: find another.
                lost_race = self._may_move and not ports.is_free(self.port)
                if not lost_race or attempt == PORT_TRIES:
                    raise
            except BaseException:
                self.kill()
                raise
            else:
                self._may_move = False
                return self
        raise AssertionError

    def stop(self) -> None:
        """Stop it cleanly; by force if it takes too long. Stopping a stopped server is fine."""
        if self._process is not None:
            spawn.end(self._process, polite=self.stop_signal, seconds=self.stop_seconds)
            self._pid_file.unlink(missing_ok=True)

    def kill(self) -> None:
        """SIGKILL, as a crash or the kernel's memory killer would."""
        if self._process is not None and self._process.poll() is None:
            spawn.kill(self._process)

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of its log."""
        if not self.log_path.exists():
            return "(no log)"
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    @property
    def _pid_file(self) -> Path:
        return self.folder / f"{self.name}.pid"

    def _launch(self) -> None:
        with self.log_path.open("ab") as log:
            self._process = spawn.spawn(
                self.command(),
                env=self.environment(),
                cwd=self.folder,
                output=log,
                death_signal=self.stop_signal,
                account=self.account(),
            )
        pid = self._process.pid
        self._pid_file.write_text(f"{pid} {spawn.started_at(pid)}\n")

    def _wait_until_it_answers(self) -> None:
        process = self._process
        assert process is not None
        deadline = time.monotonic() + START_SECONDS
        # Another program on the port may answer for one that could not listen.
        while not (spawn.listens(process.pid, self.port) and self.answers()):
            if process.poll() is not None:
                raise DevstackError(
                    f"{self.name} ended with status {process.returncode} while starting. "
                    f"Its log ({self.log_path}) ends with:\n{self.log_tail()}"
                )
            if time.monotonic() > deadline:
                raise DevstackError(
                    f"{self.name} does not answer on port {self.port}. "
                    f"Its log ({self.log_path}) ends with:\n{self.log_tail()}"
                )
            time.sleep(0.05)

    def _wait_for_predecessor(self) -> None:
        """Two servers on one folder would destroy its data; a dying one gets time to finish."""
        try:
            pid_text, started = self._pid_file.read_text().split()
            pid = int(pid_text)
            same = spawn.started_at(pid) == float(started)
        except (FileNotFoundError, ValueError):
            return
        if same and not spawn.wait_gone(pid, seconds=self.stop_seconds):
            raise DevstackError(
                f"{self.name} already runs on {self.folder} (process {pid}). "
                "Stop what started it, or use another folder."
            )
