"""One run of faults: clients, nemesis, drain, check, report. `make chaos` runs it by hand."""

import argparse
import random
import sys
import tempfile
import time
from bisect import bisect
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.faults import checker
from tests.faults.clients import Clients
from tests.faults.cluster import DISPATCHERS, WORKERS, Cluster
from tests.faults.hooks import listening
from tests.faults.nemesis import Nemesis
from tests.faults.sampler import Sampler

USERS = 4
THREADS_A_USER = 2
ENOUGH_WAITING = 30
DRAIN_SECONDS = 300.0


@dataclass
class Report:
    """What a run came to."""

    seed: int
    seconds: float
    drain_seconds: float
    faults: Counter[str]
    jobs: Counter[str]
    failures: Counter[str]
    answers: Counter[str]
    messages: Counter[str]
    attempts: int
    samples: int
    most_active: int
    recoveries: list[float]
    complaints: dict[str, list[str]]

    def rows(self) -> list[tuple[str, str]]:
        """The report as names and values."""
        by_kind = [(kind, str(count)) for kind, count in sorted(self.faults.items())]
        return [
            ("seed", str(self.seed)),
            ("seconds of faults", f"{self.seconds:.0f}"),
            ("seconds until all jobs had ended", f"{self.drain_seconds:.1f}"),
            ("faults", str(self.faults.total())),
            *((f"— {kind}", count) for kind, count in by_kind),
            ("jobs", str(self.jobs.total())),
            *((f"— {status}", str(count)) for status, count in sorted(self.jobs.items())),
            *((f"— — {code}", str(count)) for code, count in sorted(self.failures.items())),
            ("attempts", str(self.attempts)),
            ("messages", str(self.messages.total())),
            *((f"— {status}", str(count)) for status, count in sorted(self.messages.items())),
            *((f"{name}", str(len(found))) for name, found in self.complaints.items()),
            ("most active jobs of a user", f"{self.most_active} in {self.samples} samples"),
            ("from a fault to the next success, p50", f"{self._recovery(0.5):.1f} s"),
            ("from a fault to the next success, p99", f"{self._recovery(0.99):.1f} s"),
            ("answers to clients", ", ".join(f"{k}: {v}" for k, v in sorted(self.answers.items()))),
        ]

    def table(self) -> str:
        """The report as a Markdown table."""
        lines = [f"| {name} | {value} |" for name, value in self.rows()]
        return "\n".join(["| what | measured |", "|---|---|", *lines])

    def _recovery(self, share: float) -> float:
        if not self.recoveries:
            return float("nan")
        ordered = sorted(self.recoveries)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def run(folder: Path, *, seconds: float, seed: int) -> Report:
    """Hurt a platform of its own for so long, let it recover, and check what has become of it."""
    with listening() as hooks, Cluster(folder) as cluster:
        cluster.dispatcher(DISPATCHERS[1]).start()
        for name in WORKERS[1:]:
            cluster.worker(name).start()
        accounts = [cluster.add_account() for _ in range(USERS)]
        for account in accounts:
            cluster.add_webhook(account, hooks.url)
        sampler = Sampler(cluster.dsn)
        clients = Clients(
            cluster.api_url,
            accounts * THREADS_A_USER,
            seed,
            busy=lambda: sampler.unfinished > ENOUGH_WAITING,
        )
        nemesis = Nemesis(cluster, seed)
        sampler.start()
        clients.start()
        try:
            nemesis.run(seconds)
        finally:
            nemesis.make_whole()
            ended = time.monotonic()
            clients.finish(DRAIN_SECONDS)
            while sampler.unfinished and time.monotonic() < ended + DRAIN_SECONDS:
                time.sleep(0.2)
            drained = time.monotonic() - ended
            sampler.stop()
        if clients.errors:
            raise clients.errors[0]
        records = checker.Records(cluster)
        told = clients.ledger.jobs
        jobs = records.jobs.values()
        return Report(
            seed=seed,
            seconds=seconds,
            drain_seconds=drained,
            faults=nemesis.by_kind,
            jobs=Counter(job["status"] for job in jobs),
            failures=Counter(job["error_code"] for job in jobs if job["status"] == "FAILED"),
            answers=clients.ledger.answers,
            messages=Counter(
                message["status"] for of_job in records.deliveries.values() for message in of_job
            ),
            attempts=len(records.attempts),
            samples=sampler.samples,
            most_active=sampler.most_active,
            recoveries=_recoveries([fault.at for fault in nemesis.faults], records.successes),
            complaints={
                "lost": checker.lost_jobs(told, records),
                "doubled": checker.doubled_jobs(told, records),
                "illegal paths": checker.illegal_paths(records),
                "limit exceeded": checker.too_many_active(sampler.most_active, records),
                "unexplained cancellations": checker.unexplained_cancellations(told, records),
                "bad messages": checker.bad_messages(hooks.taken, records),
                "bad artifacts": checker.bad_artifacts(cluster.stack.api_url, told, records),
                "orphans": checker.orphans(cluster, nemesis.left_behind),
                "server errors": clients.ledger.server_errors,
                "never answered": [page.key for page in told if not page.ids],
            },
        )


def _recoveries(faults: list[float], successes: list[float]) -> list[float]:
    """For each fault, the seconds until something next succeeded."""
    after = [(fault, bisect(successes, fault)) for fault in faults]
    return [successes[place] - fault for fault, place in after if place < len(successes)]


def main() -> int:
    """Run as long as asked, and print the report; 1 if anything was lost or wrong."""
    parser = argparse.ArgumentParser(prog="make chaos")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--out", type=Path, default=None, help="write the table to this file")
    parser.add_argument("--folder", type=Path, default=None, help="keep logs and data here")
    options = parser.parse_args()
    seed = random.randrange(1 << 32) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="chaos-") as temporary:
        folder = options.folder or Path(temporary)
        report = run(folder, seconds=options.seconds, seed=seed)
    print(report.table())
    if options.out is not None:
        options.out.write_text(report.table() + "\n")
    for name, found in report.complaints.items():
        for sentence in found:
            print(f"{name}: {sentence}")
    return 1 if any(report.complaints.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
