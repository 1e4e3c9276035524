"""`make demo`: a picture becomes a 3D model on a stack of its own, through the public API."""

import http
import shutil
import tempfile
import time
from collections.abc import Iterator
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

MODEL = "inflate-v1"
SAMPLES = Path(__file__).with_name("samples")
LOG_LINES = 15


class DemoError(Exception):
    """The demo did not reach its end; the message says why.

    `expected` when the reason lies in the picture, so that nobody needs the logs.
    """

    def __init__(self, message: str, *, expected: bool = False) -> None:
        super().__init__(message)
        self.expected = expected


class Steps:
    """Says what happens, and how long each step took."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time what happens inside."""
        self._console.print(f"{name} …")
        started = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - started


def sample_image() -> Path:
    """The picture that comes with the project."""
    pictures = sorted(SAMPLES.glob("*.png"))
    if not pictures:
        raise DemoError(f"There is no PNG in {SAMPLES}; name a picture: make demo IMAGE=path.png")
    return pictures[0]


def checked_image(path: Path | None) -> Path:
    """The picture to use.

    Raises:
        DemoError: it is no readable file.
    """
    if path is None:
        return sample_image()
    if not path.is_file():
        what = "a folder" if path.is_dir() else "not there"
        raise DemoError(f"The picture {path} is {what}. Name a PNG, JPEG or WebP file.")
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise DemoError(f"The picture {path} cannot be read: {error.strerror}.") from None
    return path


def watch(client: Client, job_id: str, stack: Stack, console: Console) -> dict[str, Any]:
    """Follow the job with a bar, or with a line for each stage where there is no terminal."""
    job: dict[str, Any] = {}
    columns = (
        *(TextColumn("  {task.description:<22}"), BarColumn(), TaskProgressColumn()),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("QUEUED", total=100)
        shown = None
        for job in client.watch(job_id):
            stack.check()  # without a worker the job would wait for ever
            stage = job["stage"] or job["status"]
            progress.update(bar, description=stage, completed=job["progress_percent"])
            if not console.is_terminal and stage != shown:
                console.print(f"  {job['progress_percent']:3.0f} %  {stage}")
            shown = stage
        progress.update(bar, description=job["status"])
    return job


def raise_unless_succeeded(job: dict[str, Any]) -> None:
    """Turn the job's error into the demo's."""
    if job["status"] != "SUCCEEDED":
        error = job.get("error") or {}
        reason = f"{error.get('code')}: {error.get('message')}" if error else job["status"]
        raise DemoError(
            f"The job did not succeed. {reason}", expected=error.get("permanent") is True
        )


def download_all(client: Client, job_id: str, output: Path) -> list[Path]:
    """Fetch every file the job made into a new `output`, replacing that of an earlier demo."""
    artifacts = [a for a in client.artifacts(job_id) if a["kind"] != "input"]
    fresh = output.with_name(f"{output.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for artifact in artifacts:
        size = client.download(artifact["url"], fresh / artifact["name"])
        if size != artifact["size_bytes"]:
            raise DemoError(f"{artifact['name']} arrived with {size} bytes, not all of them.")
    output.mkdir(exist_ok=True)
    for file in fresh.iterdir():
        file.replace(output / file.name)
    fresh.rmdir()
    return [output / artifact["name"] for artifact in artifacts]


def make_model(stack: Stack, image: Path, output: Path, steps: Steps, console: Console) -> Table:
    """What any client would do; answers a table of what came of it."""
    with Client(stack.api_url, stack.admin_api_key) as client:
        with steps.step("Uploading the picture"):
            object_name = client.upload(image)
        with steps.step("Running the job"):
            job_id = client.create_job(MODEL, {"image_path": object_name})["id"]
            raise_unless_succeeded(watch(client, job_id, stack, console))
        with steps.step("Downloading"):
            files = download_all(client, job_id, output)
    table = Table("File", "Size")
    table.columns[1].justify = "right"
    for file in sorted(files):
        table.add_row(file.name, f"{file.stat().st_size / 1000:,.1f} kB")
    return table


def show_logs(stack: Stack, console: Console) -> None:
    """The end of each service's log, for whoever looks into a failure."""
    for name, service in stack.services.items():
        console.rule(name)
        console.print(service.log_tail(LOG_LINES), markup=False, highlight=False, soft_wrap=True)


def demo(image: Path | None, output: Path) -> int:
    """Run the demo; 0 when the files lie in `output`."""
    signals.interrupt_on_signals()
    console = Console(highlight=False)
    errors = Console(stderr=True, highlight=False)
    try:
        picture = checked_image(image)
        with tempfile.TemporaryDirectory(prefix="p3d-demo-") as folder:
            _run(picture, output, Path(folder), console)
    except (DemoError, DevstackError, ApiError) as error:
        errors.print(str(error), markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        errors.print("Interrupted; everything has been stopped.")
        return 130
    return 0


def _is_about_the_picture(error: Exception) -> bool:
    if isinstance(error, ApiError):
        return error.status < http.HTTPStatus.INTERNAL_SERVER_ERROR
    return isinstance(error, DemoError) and error.expected


def _run(picture: Path, output: Path, folder: Path, console: Console) -> None:
    steps = Steps(console)
    stack = Stack(folder)
    try:
        with steps.step("Starting Postgres, Redis and storage"):
            stack.start_servers()
        with steps.step("Making the database"):
            stack.migrate()
        with steps.step("Starting API, dispatcher, worker and dashboard"):
            stack.start_services()
        table = make_model(stack, picture, output, steps, console)
        with steps.step("Stopping everything"):
            stack.stop()
    except (httpx.HTTPError, ApiError, DemoError) as error:
        if not _is_about_the_picture(error):
            show_logs(stack, Console(stderr=True))
        if isinstance(error, httpx.HTTPError):
            raise DemoError(f"The API or the storage stopped answering: {error}") from error
        raise
    finally:
        signals.ignore_signals()
        stack.stop()
    times = Table("Step", "Seconds")
    times.columns[1].justify = "right"
    for name, seconds in steps.seconds.items():
        times.add_row(name, f"{seconds:.1f}")
    console.print(times, table)
    console.print(
        f"Made from {picture.name}. Look at the pictures and turntable.webp in {output}/; "
        f"{output / 'model.glb'} opens in Blender or any other viewer of glTF files.",
        soft_wrap=True,
    )


def default_output() -> Path:
    """Where the demo leaves its files."""
    return Path("demo-output")
