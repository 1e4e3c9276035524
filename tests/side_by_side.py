"""The whole suite as two processes side by side, which is what two cores are for: `make test`.

Each has servers of its own. What failed while the other half kept the machine busy is tried once
more with the machine to itself: a test that waits for processes to die and to come back may run
out of patience beside a busy neighbour, one that finds a fault finds it again. Both are told at
the end, after the coverage of all, so that the last lines of a log say what went wrong. The status
is 0 only if nothing failed twice and enough is covered.
"""

import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# What waits for servers and processes, much of it until they have died or come back; the other
# half is everything else.
SLOW = ("e2e", "faults", "fuzz", "integration", "notifications", "worker")
COVERED = 85
# More than this is no matter of patience, and not tried again.
TRIED_AGAIN = 10
PYTEST_TESTS_FAILED = 1


@dataclass
class Run:
    """One pytest process with coverage data and a cache of its own, passing on what it prints."""

    name: str
    arguments: list[str]
    failures: list[str] = field(default_factory=list)
    status: int = -1

    def __call__(self) -> None:
        """Run it to its end, and keep what its summary says of failures."""
        command = [sys.executable, "-m", "pytest", "--cov", "--cov-report=", *self.arguments]
        with subprocess.Popen(
            [*command, "-o", f"cache_dir=.pytest_cache/{self.name}"],
            cwd=ROOT,
            env={**os.environ, "COVERAGE_FILE": f".coverage.{self.name}"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                print(f"{self.name}| {line}", end="", flush=True)
                if line.startswith(("FAILED ", "ERROR ")):
                    self.failures.append(line.rstrip())
        self.status = process.returncode

    def again(self) -> "Run | None":
        """The same with what failed alone; `None` where that would not tell anything new."""
        if self.status != PYTEST_TESTS_FAILED or not 0 < len(self.failures) <= TRIED_AGAIN:
            return None
        cache = ["--last-failed", "--last-failed-no-failures=none", "--cov-append"]
        return Run(self.name, [*self.arguments, *cache])


def halves(arguments: list[str]) -> list[Run]:
    """Both halves; each folder that holds tests is in one of them."""
    found = sorted({path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")})
    missing = set(SLOW).difference(found)
    if missing:
        raise SystemExit(f"There are no tests in {', '.join(sorted(missing))}.")
    rest = [name for name in found if name not in SLOW]
    return [
        Run("slow", [*(f"tests/{name}" for name in SLOW), *arguments]),
        Run("rest", [*(f"tests/{name}" for name in rest), *arguments]),
    ]


def coverage(runs: list[Run]) -> int:
    """Put the data together and print the report; its status is not 0 below the limit."""
    command = [sys.executable, "-m", "coverage"]
    data = sorted({str(path) for run in runs for path in ROOT.glob(f".coverage.{run.name}*")})
    subprocess.run([*command, "combine", *data], cwd=ROOT, check=True)
    report = [*command, "report", f"--fail-under={COVERED}"]
    return subprocess.run(report, cwd=ROOT, check=False).returncode


def main() -> int:
    """Run both halves and what failed of them again; further arguments are pytest's."""
    runs = halves(sys.argv[1:])
    threads = [threading.Thread(target=run) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statuses = []
    told = []
    for run in runs:
        if last := run.again():
            last()
            told += [f"failed beside the other half: {line}" for line in run.failures]
            told += [f"failed by itself, too: {line}" for line in last.failures]
        else:
            last = run
            told += run.failures
        if last.status:
            told.append(f"The {run.name} half ended with status {last.status}.")
        statuses.append(abs(last.status))
    statuses.append(coverage(runs))
    print("\n".join(told), flush=True)
    return max(statuses)


if __name__ == "__main__":
    sys.exit(main())
