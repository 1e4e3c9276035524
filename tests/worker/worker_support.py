"""What the worker's tests share: its environment, its processes, and words for common steps."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from fake_platform import Platform
from rq import Queue, Worker
from rq.job import Job, JobStatus

from contract.tasks import RUN_ATTEMPT
from worker_vm.pipelines.registry import PIPELINES

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent
QUEUE = "test"
PLUGINS = (
    "scripted=scripted_pipeline:Scripted other=scripted_pipeline:Scripted "
    "third=scripted_pipeline:Scripted unavailable=scripted_pipeline:Unavailable "
    "thorough=scripted_pipeline:Thorough ranged=scripted_pipeline:Ranged "
    "broken=no_such_module:Nothing"
)


def host_environment(**settings: str) -> dict[str, str]:
    """A worker's environment with the test pipelines plugged in."""
    paths = [str(REPOSITORY), str(HERE), os.environ.get("PYTHONPATH", "")]
    ours = {"WORKER_PIPELINES": PLUGINS, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    return {**os.environ, **ours, **settings}


def every_pipeline(where: str) -> str:
    """A setting of WORKER_PIPELINES that has each pipeline of ours somewhere else."""
    return " ".join(f"{name}={where}" for name in PIPELINES)


def children(pid: int) -> list[int]:
    """The processes that one has started, oldest first."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class WorkerProcess:
    """A worker started as its own process, with its log."""

    def __init__(self, folder: Path, settings: dict[str, str], arguments: tuple[str, ...]) -> None:
        self.log_path = folder / "worker.log"
        self._log = self.log_path.open("ab")
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "worker_vm", *arguments],
            cwd=folder,
            env=settings,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def log(self) -> str:
        """All it wrote so far."""
        return self.log_path.read_text()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.popen.send_signal(number)

    def wait(self) -> int:
        """Its exit status."""
        return self.popen.wait(timeout=60)

    def stop(self) -> int:
        """Ask it to stop; its exit status."""
        self.send(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """SIGKILL, and it is gone."""
        self.popen.kill()
        self.wait()

    def guard(self) -> int:
        """The process above the one that runs its pipelines."""
        (guard,) = children(self.popen.pid)
        return guard

    def host(self) -> int:
        """The process that runs its pipelines."""
        return children(self.guard())[0]

    def close(self) -> None:
        """End it for certain."""
        if self.popen.poll() is None:
            self.kill()
        self._log.close()


Start = Callable[..., WorkerProcess]


def until(condition: Callable[[], Any], what: str = "it") -> None:
    """Wait for something that no event tells of."""
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen")


def gone(pid: int) -> bool:
    """Whether a process has ended, even if nobody has asked for its status."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


@contextmanager
def meanwhile(work: Callable[[], None]) -> Iterator[None]:
    """Do something beside the block; its failure is the block's."""
    failures: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  (told below)
            failures.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    if failures:
        raise failures[0]


def push(queue: Queue, attempt_id: object, **options: Any) -> Job:
    """Enqueue an attempt as the dispatcher does."""
    return queue.enqueue(
        RUN_ATTEMPT, args=(str(attempt_id),), job_id=str(attempt_id), job_timeout=120, **options
    )


def status(job: Job) -> JobStatus:
    """A job's status as Redis has it now."""
    return job.get_status(refresh=True)


def do(platform: Platform, *steps: list[Any], **params: Any) -> None:
    """Say what the scripted pipeline is to do."""
    platform.spec["params"] = {"do": list(steps), **params}


def names(platform: Platform) -> list[str]:
    """The committed files, in order."""
    return [record.name for record in platform.records]


def content(platform: Platform, name: str) -> bytes:
    """A stored result."""
    (path,) = [path for path in platform.objects if path.endswith(f"/{name}")]
    return platform.objects[path]


def worker_names(connection: redis.Redis) -> list[str]:
    """The registered workers."""
    return sorted(worker.name for worker in Worker.all(connection=connection))
