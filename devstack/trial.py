"""What every demo does: a stack of its own, a job watched to its end, files brought home."""

import http
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from devstack import signals
from devstack.client import ApiError, Client
from devstack.errors import DevstackError
from devstack.stack import Stack

LOG_LINES = 15


class DemoError(Exception):
    """The demo did not reach its end; the message says why.

    `expected` when the reason lies in the user's file, so that nobody needs the logs.
    """

    def __init__(self, message: str, *, expected: bool = False) -> None:
        super().__init__(message)
        self.expected = expected


class Trial:
    """One demo's stack, and what is said about it.

    Args:
        stack: where it runs.
        client: the API's.
        console: what the user sees.
        seconds: where the time of each step is written down.
    """

    def __init__(
        self, stack: Stack, client: Client, console: Console, seconds: dict[str, float]
    ) -> None:
        self.client = client
        self._stack = stack
        self._console = console
        self._seconds = seconds

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Say what happens inside, and time it."""
        with timed(self._console, self._seconds, name):
            yield

    def run(self, model_id: str, input_params: dict[str, Any]) -> dict[str, Any]:
        """Run a job to its end; the job.

        Raises:
            DemoError: it did not succeed.
        """
        job_id = self.client.create_job(model_id, input_params)["id"]
        job = self._watch(job_id)
        raise_unless_succeeded(job)
        return job

    def download(self, job_id: str, output: Path) -> list[Path]:
        """Fetch every file that a job made into a new `output`, replacing that of an earlier demo.

        Raises:
            DemoError: a file arrived in part.
        """
        artifacts = [a for a in self.client.artifacts(job_id) if a["kind"] != "input"]
        fresh = output.with_name(f"{output.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        for artifact in artifacts:
            size = self.client.download(artifact["url"], fresh / artifact["name"])
            if size != artifact["size_bytes"]:
                raise DemoError(f"{artifact['name']} arrived with {size} bytes, not all of them.")
        output.mkdir(exist_ok=True)
        for file in fresh.iterdir():
            file.replace(output / file.name)
        fresh.rmdir()
        return [output / artifact["name"] for artifact in artifacts]

    def show(self, *what: object) -> None:
        """Say something, or show a table."""
        self._console.print(*what, soft_wrap=True)

    def _watch(self, job_id: str) -> dict[str, Any]:
        """Follow the job with a bar, or a line for each stage where there is no terminal."""
        job: dict[str, Any] = {}
        columns = (
            *(TextColumn("  {task.description:<22}"), BarColumn(), TaskProgressColumn()),
            TimeElapsedColumn(),
        )
        console = self._console
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            bar = progress.add_task("QUEUED", total=100)
            shown = None
            for job in self.client.watch(job_id):
                self._stack.check()  # without a worker the job would wait for ever
                stage = job["stage"] or job["status"]
                progress.update(bar, description=stage, completed=job["progress_percent"])
                if not console.is_terminal and stage != shown:
                    console.print(f"  {job['progress_percent']:3.0f} %  {stage}")
                shown = stage
            progress.update(bar, description=job["status"])
        return job


@contextmanager
def timed(console: Console, seconds: dict[str, float], name: str) -> Iterator[None]:
    """Say what happens inside, and time it."""
    console.print(f"{name} …")
    started = time.monotonic()
    yield
    seconds[name] = time.monotonic() - started


def checked_file(path: Path, what: str, kinds: str) -> Path:
    """A file that the user has named.

    Raises:
        DemoError: it cannot be read.
    """
    if not path.is_file():
        problem = "a folder" if path.is_dir() else "not there"
        raise DemoError(f"The {what} {path} is {problem}. Name {kinds} file.")
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise DemoError(f"The {what} {path} cannot be read: {error.strerror}.") from None
    return path


def raise_unless_succeeded(job: dict[str, Any]) -> None:
    """Turn the job's error into the demo's."""
    if job["status"] != "SUCCEEDED":
        error = job.get("error") or {}
        reason = f"{error.get('code')}: {error.get('message')}" if error else job["status"]
        raise DemoError(
            f"The job did not succeed. {reason}", expected=error.get("permanent") is True
        )


def sizes(files: list[Path], root: Path) -> Table:
    """A table of files."""
    table = Table("File", "Size")
    table.columns[1].justify = "right"
    for file in sorted(files):
        table.add_row(str(file.relative_to(root)), f"{file.stat().st_size / 1000:,.1f} kB")
    return table


def run_trial(prepare: Callable[[Path], Callable[[Trial], None]]) -> int:
    """Run a demo on a stack of its own; 0 when it has come to its end.

    Args:
        prepare: makes ready what needs no stack, in a folder for what is not kept, and answers
            what to do with one.
    """
    signals.interrupt_on_signals()
    console = Console(highlight=False)
    errors = Console(stderr=True, highlight=False)
    try:
        with tempfile.TemporaryDirectory(prefix="p3d-demo-") as folder:
            work = prepare(Path(folder))
            _on_a_stack(work, Path(folder), console)
    except (DemoError, DevstackError, ApiError) as error:
        errors.print(str(error), markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        errors.print("Interrupted; everything has been stopped.")
        return 130
    return 0


def _on_a_stack(work: Callable[[Trial], None], folder: Path, console: Console) -> None:
    seconds: dict[str, float] = {}
    stack = Stack(folder)
    try:
        with timed(console, seconds, "Starting Postgres, Redis and storage"):
            stack.start_servers()
        with timed(console, seconds, "Making the database"):
            stack.migrate()
        with timed(console, seconds, "Starting API, dispatcher, worker and dashboard"):
            stack.start_services()
        with Client(stack.api_url, stack.admin_api_key) as client:
            work(Trial(stack, client, console, seconds))
    except (httpx.HTTPError, ApiError, DemoError) as error:
        if not _is_about_the_file(error):
            _show_logs(stack, Console(stderr=True))
        if isinstance(error, httpx.HTTPError):
            raise DemoError(f"The API or the storage stopped answering: {error}") from error
        raise
    finally:
        signals.ignore_signals()
        with timed(console, seconds, "Stopping everything"):
            stack.stop()
    times = Table("Step", "Seconds")
    times.columns[1].justify = "right"
    for name, taken in seconds.items():
        times.add_row(name, f"{taken:.1f}")
    console.print(times)


def _is_about_the_file(error: Exception) -> bool:
    if isinstance(error, ApiError):
        return error.status < http.HTTPStatus.INTERNAL_SERVER_ERROR
    return isinstance(error, DemoError) and error.expected


def _show_logs(stack: Stack, console: Console) -> None:
    """The end of each service's log, for whoever looks into a failure."""
    for name, service in stack.services.items():
        console.rule(name)
        console.print(service.log_tail(LOG_LINES), markup=False, highlight=False, soft_wrap=True)
