"""Jobs a second and enqueue → start of one worker, all workers measured in the same way."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bench.worker_bench import environments
from bench.worker_bench.peers.clock import SOCKET_SETTING, Ear
from contract.tasks import RUN_ATTEMPT
from devstack import spawn

HERE = Path(__file__).resolve().parent
PEERS = HERE / "peers"
START_SECONDS = 60.0
WARM_UP_JOBS = 20
SETTLE_SECONDS = 0.3
GAP_SECONDS = 0.06
"""Between two jobs of an idle worker; longer than any of them is busy with one."""


@dataclass(frozen=True)
class Peer:
    """One kind of worker.

    Args:
        name: for people.
        environment: of `environments`, or None for this project's.
        worker: its command; the first word is a program of the environment.
        producer: the same for what enqueues.
        batch: jobs enqueued at once to measure jobs a second; for about two seconds.
        pipeline: for ours.
    """

    name: str
    environment: str | None
    worker: tuple[str, ...]
    producer: tuple[str, ...]
    batch: int
    pipeline: str = "bench-no-op"


def rq_peer(name: str, kind: str, batch: int, function: str = "rq_peer.no_op") -> Peer:
    """One of RQ's own workers."""
    script = str(PEERS / "rq_peer.py")
    return Peer(
        name,
        "rq",
        ("python", script, "work", kind, kind),
        ("python", script, "produce", kind, function),
        batch,
    )


def our_peer(name: str, pipeline: str = "bench-no-op", batch: int = 800) -> Peer:
    """Our worker."""
    return Peer(
        name,
        None,
        (sys.executable, "-m", "bench.worker_bench.warm_peer", "warm"),
        (sys.executable, str(PEERS / "rq_peer.py"), "produce", "warm", RUN_ATTEMPT),
        batch,
        pipeline,
    )


WARM = our_peer("**ours**: `WarmWorker`")
STOCK = rq_peer("RQ `Worker` (forks for each job)", "stock", 100)
SIMPLE = rq_peer("RQ `SimpleWorker` (no second process)", "simple", 800)
CELERY = Peer(
    "Celery, prefork, 1 process",
    "celery",
    ("celery", "-A", "celery_peer", "worker", "--concurrency", "1", "--loglevel", "ERROR"),
    ("python", str(PEERS / "celery_peer.py")),
    1500,
)
DRAMATIQ = Peer(
    "Dramatiq, 1 process, 1 thread",
    "dramatiq",
    ("dramatiq", "dramatiq_peer", "--processes", "1", "--threads", "1"),
    ("python", str(PEERS / "dramatiq_peer.py")),
    800,
)
PEERS_TO_MEASURE = (WARM, SIMPLE, STOCK, CELERY, DRAMATIQ)


class Running:
    """A worker and its producer.

    Args:
        worker: its process, in a process group of its own.
        producer: enqueues on command.
        ear: hears when jobs begin.
    """

    _next = 1

    def __init__(
        self, worker: subprocess.Popen[bytes], producer: subprocess.Popen[str], ear: Ear
    ) -> None:
        self._worker = worker
        self._producer = producer
        self._ear = ear

    def _enqueue(self, count: int) -> int:
        """Enqueue jobs; when that began."""
        assert self._producer.stdin is not None
        assert self._producer.stdout is not None
        self._producer.stdin.write(f"{Running._next} {count}\n")
        self._producer.stdin.flush()
        Running._next += count
        return int(self._producer.stdout.readline())

    def start_seconds(self) -> float:
        """From the call that enqueues one job until that job runs."""
        began = self._enqueue(1)
        return (self._ear.next(START_SECONDS).at_ns - began) / 1e9

    def jobs_per_second(self, count: int) -> float:
        """How fast a full queue is worked off."""
        # Stopped meanwhile: not every producer can enqueue faster than its worker works.
        os.killpg(self._worker.pid, signal.SIGSTOP)
        try:
            self._enqueue(count)
        finally:
            os.killpg(self._worker.pid, signal.SIGCONT)
        times = [self._ear.next(START_SECONDS).at_ns for _ in range(count)]
        return (count - 1) * 1e9 / (max(times) - min(times))

    def warm_up(self) -> Self:
        """See that it works, and let it import what it needs."""
        for _ in range(WARM_UP_JOBS):
            self.start_seconds()
        time.sleep(SETTLE_SECONDS)
        return self


@contextmanager
def running(peer: Peer, redis_url: str, folder: Path) -> Iterator[Running]:
    """A worker that runs for as long as the block, and nothing else does."""
    folder.mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "BENCH_REDIS": redis_url,
        SOCKET_SETTING: str(folder / "ear"),
        "BENCH_PIPELINE": peer.pipeline,
        "PYTHONPATH": str(PEERS if peer.environment else HERE.parents[1]),
        "PYTHONWARNINGS": "ignore",
    }
    ear = Ear(folder / "ear")
    with (folder / "log").open("ab") as log:
        worker = spawn.spawn(_command(peer, peer.worker), env=environment, cwd=folder, output=log)
        producer = subprocess.Popen(
            _command(peer, peer.producer),
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            yield Running(worker, producer, ear)
        except TimeoutError:
            raise SystemExit(f"{peer.name} runs nothing; see {folder / 'log'}") from None
        finally:
            producer.communicate()
            spawn.end(worker, polite=signal.SIGTERM, seconds=10)
            ear.close()
            ear.path.unlink()


def _command(peer: Peer, command: tuple[str, ...]) -> list[str]:
    if peer.environment is None:
        return list(command)
    return [str(environments.binaries(peer.environment) / command[0]), *command[1:]]


@dataclass
class Measured:
    """What one kind of worker reached, over all rounds."""

    rates: list[float]
    starts: list[list[float]]


def measure(
    redis_url: str, folder: Path, *, rounds: int, starts: int, share: float
) -> dict[str, Measured]:
    """Measure all, one after the other, round by round."""
    results = {peer.name: Measured([], []) for peer in PEERS_TO_MEASURE}
    for _ in range(rounds):
        for number, peer in enumerate(PEERS_TO_MEASURE):
            with running(peer, redis_url, folder / str(number)) as worker:
                worker.warm_up()
                seconds = []
                for _ in range(starts):
                    seconds.append(worker.start_seconds())
                    time.sleep(GAP_SECONDS)
                results[peer.name].starts.append(seconds)
                results[peer.name].rates.append(worker.jobs_per_second(int(peer.batch * share)))
    return results
