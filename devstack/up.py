"""`make up`: the stack in the foreground until Ctrl-C."""

import contextlib
import fcntl
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit, urlunsplit

from devstack import signals
from devstack.console import LogPrinter
from devstack.errors import DevstackError
from devstack.processes import LogFollower
from devstack.settings import ROOT, user_settings
from devstack.stack import Ports, Stack

DATA = ROOT / ".devstack"
USUAL_PORTS = Ports(api=8000, s3=9000, dashboard=9181, postgres=5432, redis=6379)
POLL_SECONDS = 0.2
PUBLISHED = ("DATABASE_URL", "REDIS_URL", "MINIO_ENDPOINT", "API_URL")


def _lock_file(data: Path) -> Path:
    return data / "up.lock"


@contextlib.contextmanager
def only_one(data: Path) -> Iterator[IO[str]]:
    """Hold the data folder; the lock ends with the process, however that ends.

    Raises:
        DevstackError: another `make up` of this checkout runs.
    """
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = _lock_file(data)
    path.touch(mode=0o600)
    with path.open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pid = _read(path).get("pid", "unknown")
            raise DevstackError(
                f"`make up` runs already in this folder (process {pid}). Stop it with Ctrl-C first."
            ) from None
        file.truncate()
        yield file
        file.truncate(0)


def _read(path: Path) -> dict[str, str]:
    try:
        content: dict[str, str] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content


def running_addresses(data: Path = DATA) -> dict[str, str]:
    """The addresses of the `make up` that runs now; empty if none does."""
    with contextlib.suppress(OSError), _lock_file(data).open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            content = _read(_lock_file(data))
            return {name: content[name] for name in PUBLISHED if name in content}
    return {}


def describe_moves(wanted: Ports, actual: Ports) -> list[str]:
    """A sentence for each port that something else had."""
    before, after = asdict(wanted), asdict(actual)
    return [
        f"Port {before[name]} is taken by something else: "
        f"{'storage' if name == 's3' else name} moved to {port}."
        for name, port in after.items()
        if port is not None and port != before[name]
    ]


def without_password(url: str) -> str:
    """A URL to show."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    netloc = f"{parts.username or ''}:***@{parts.hostname}" + (
        f":{parts.port}" if parts.port else ""
    )
    return urlunsplit(parts._replace(netloc=netloc))


def describe(stack: Stack, settings: dict[str, str]) -> str:
    """Where everything is, one line each."""
    postgres = stack.postgres.psql_url if stack.postgres else without_password(stack.database_url)
    redis = stack.redis_url if stack.redis else without_password(stack.redis_url)
    lines = {
        "API": f"{stack.api_url}  (documentation at {stack.api_url}/docs)",
        "Storage": f"{stack.storage_url}  (S3, bucket {settings['MINIO_BUCKET']})",
        "Postgres": postgres,
        "Redis": redis,
        "Dashboard": f"{stack.dashboard_url}  (user {settings['RQ_DASHBOARD_USERNAME']}, "
        "password RQ_DASHBOARD_PASSWORD in .env)",
        "Worker": f"queue {settings['WORKER_QUEUE']}",
        "Admin key": f"{stack.admin_api_key}  (send it as x-api-key)",
        "Data, logs": str(stack.folder),
    }
    return "\n".join(f"  {name:<10}  {text}" for name, text in lines.items())


def follow(stack: Stack) -> None:
    """Print the logs until something ends.

    Raises:
        DevstackError: a part of the stack ended by itself; with its last lines.
    """
    logs = {name: service.log_path for name, service in stack.services.items()}
    follower = LogFollower(logs)
    printer = LogPrinter(list(logs))
    while True:
        for name, line in follower.new_lines():
            printer.print(name, line)
        stack.check()
        time.sleep(POLL_SECONDS)


def rotate_logs(folder: Path) -> None:
    """Keep the logs of this run and of the one before."""
    for log in list(folder.glob("*/*.log")):
        log.replace(log.with_suffix(".log.1"))


def up(data: Path = DATA) -> int:
    """Run until Ctrl-C (0), or until a part fails (1)."""
    signals.interrupt_on_signals()
    try:
        with only_one(data) as lock:
            rotate_logs(data)
            settings = user_settings()
            if settings.get("LOG_FORMAT", "auto") == "auto":
                settings["LOG_FORMAT"] = "pretty"
            stack = Stack(data, settings=settings, listen=USUAL_PORTS, external=True)
            return _run(stack, settings, lock)
    except DevstackError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


def _run(stack: Stack, settings: dict[str, str], lock: IO[str]) -> int:
    try:
        print("Starting …", flush=True)
        stack.start_servers()
        stack.migrate()
        stack.start_services()
        published = {name: stack.settings[name] for name in PUBLISHED}
        json.dump({"pid": os.getpid(), **published}, lock)
        lock.flush()
        for sentence in describe_moves(USUAL_PORTS, stack.ports):
            print(sentence)
        print(f"Pipeline 3D runs.\n\n{describe(stack, settings)}\n\nCtrl-C stops it.\n", flush=True)
        follow(stack)
    except KeyboardInterrupt:
        print("\nStopping …", flush=True)
    except DevstackError as error:
        print(f"{error}\nStopping the rest …", file=sys.stderr, flush=True)
        return 1
    finally:
        signals.ignore_signals()
        stack.stop()
    print("Stopped.")
    return 0
