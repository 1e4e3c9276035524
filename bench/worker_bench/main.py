"""The parts of the bench one after the other, each with its table."""

import itertools
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench.worker_bench import cancel, dispatch, environments, machine, setup, whole_path
from bench.worker_bench.platform import Platform, platform
from bench.worker_bench.tables import Limits, median, ms, percentile, print_table
from devstack.servers import RedisServer

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  (a folder made below it has a random name)


@dataclass(frozen=True)
class Extent:
    """How much is measured."""

    rounds: int
    starts: int
    share: float
    cancels: int
    jobs: int
    backlog: int
    later: int


FULL = Extent(rounds=3, starts=30, share=1, cancels=50, jobs=60, backlog=40, later=10)
QUICK = Extent(rounds=1, starts=15, share=0.3, cancels=5, jobs=15, backlog=10, later=5)


def main(*, quick: bool) -> int:
    """Measure everything; the exit status."""
    extent = QUICK if quick else FULL
    for name in environments.REQUIREMENTS:
        environments.binaries(name)
    began = time.monotonic()
    limits = Limits()
    print(f"{machine.describe()}\nLoad when it began: {machine.load()}.\n", flush=True)
    memory = _SHARED_MEMORY if _SHARED_MEMORY.is_dir() else None
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as disk,
        tempfile.TemporaryDirectory(prefix="bench-", dir=memory) as folder,
    ):
        with RedisServer(Path(disk) / "redis") as redis:
            _dispatch(redis.url, Path(folder), extent, limits)
            _setup(redis.url, Path(folder), extent, limits)
        with platform(Path(disk) / "stack") as running:
            running.warm_up(10)
            _whole_path(running, extent, limits)
            _cancel(running, extent, limits)
    print_table(("limit", "to reach", "measured", ""), limits.rows)
    print(f"Load at the end: {machine.load()}. It took {time.monotonic() - began:.0f} s.")
    return int(limits.missed)


def _dispatch(redis_url: str, folder: Path, extent: Extent, limits: Limits) -> None:
    measured = dispatch.measure(
        redis_url, folder, rounds=extent.rounds, starts=extent.starts, share=extent.share
    )
    rates = {name: median(result.rates) for name, result in measured.items()}
    starts = {name: median(map(median, result.starts)) for name, result in measured.items()}
    simple, stock = dispatch.SIMPLE.name, dispatch.STOCK.name
    print_table(
        ("no-op", "jobs/s", "÷ SimpleWorker", "start, median ms", "p95 ms", "÷ SimpleWorker"),
        [
            (
                *(name, f"{rates[name]:.0f}", f"{rates[name] / rates[simple]:.2f}"),
                ms(starts[name]),
                ms(percentile(itertools.chain(*result.starts), 0.95)),
                f"{starts[name] / starts[simple]:.2f}",
            )
            for name, result in measured.items()
        ],
    )
    ours = dispatch.WARM.name
    limits.at_least("jobs/s ÷ stock RQ's", 5, rates[ours] / rates[stock])
    limits.at_least("jobs/s ÷ SimpleWorker's", 0.8, rates[ours] / rates[simple])
    limits.at_most("median start ÷ SimpleWorker's", 1.5, starts[ours] / starts[simple])


def _setup(redis_url: str, folder: Path, extent: Extent, limits: Limits) -> None:
    starts = setup.measure(redis_url, folder, later=extent.later)
    print_table(
        ("a model that takes 3 s to load", "first job starts, ms", "later jobs, median ms"),
        [(name, ms(first), ms(median(later))) for name, (first, *later) in starts.items()],
    )
    second = starts[setup.OURS.name][1] * 1e3
    limits.below("second job starts, after a setup of 3 s", 50, second, " ms")


def _whole_path(running: Platform, extent: Extent, limits: Limits) -> None:
    before = running.cpu_seconds()
    paths = whole_path.measure(running, extent.jobs)
    after = running.cpu_seconds()
    totals = [path.total for path in paths]
    rows = [
        (name, ms(median(column)), ms(percentile(column, 0.95)))
        for (name, _, _), column in zip(
            whole_path.STAGES, zip(*(path.stages for path in paths), strict=True), strict=True
        )
    ]
    rows.append(("**POST → the client knows it SUCCEEDED**", *_both(totals)))
    print_table(("stage", "median ms", "p95 ms"), rows)
    print_table(
        ("CPU time of such a job", "ms"),
        [(name, ms((after[name] - before[name]) / extent.jobs)) for name in before],
    )
    rate = whole_path.jobs_per_second(running, extent.backlog)
    print(f"A backlog of such jobs is worked off at {rate:.1f} jobs/s by the one worker.\n")
    limits.below("POST → SUCCEEDED, median", 60, median(totals) * 1e3, " ms")


def _cancel(running: Platform, extent: Extent, limits: Limits) -> None:
    seconds = cancel.measure(running, extent.cancels)
    print_table(
        ("stop command → child dead", "p50 ms", "p99 ms", "runs"),
        [("a C loop that holds the GIL", ms(median(seconds)), ms(percentile(seconds, 0.99)),
          len(seconds))],
    )  # fmt: skip
    limits.below("stop command → child dead, p99", 1, percentile(seconds, 0.99), " s")


def _both(seconds: list[float]) -> tuple[str, str]:
    return ms(median(seconds)), ms(percentile(seconds, 0.95))
