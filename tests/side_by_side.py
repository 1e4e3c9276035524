"""The whole suite as two processes side by side, which is what two cores are for: `make test`.

Each has servers of its own. Their coverage is put together at the end. The status is 0 only if both
pass and enough is covered.
"""

import os
import subprocess
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# What waits for processes to die and to come back; everything else is the other half.
SLOW = ("e2e", "faults", "fuzz", "notifications", "worker")
COVERED = 85


def folders() -> tuple[list[str], list[str]]:
    """The folders of tests of both halves; each that holds tests is in one of them."""
    found = sorted({path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")})
    halves = ([f"tests/{name}" for name in SLOW], [f"tests/{n}" for n in found if n not in SLOW])
    missing = set(SLOW).difference(found)
    if missing:
        raise SystemExit(f"There are no tests in {', '.join(sorted(missing))}.")
    return halves


def start(name: str, paths: list[str], arguments: list[str]) -> subprocess.Popen[str]:
    """One half, with coverage data of its own."""
    command = [sys.executable, "-m", "pytest", *paths, "--cov", "--cov-report=", *arguments]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "COVERAGE_FILE": f".coverage.{name}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )


def tell(name: str, half: subprocess.Popen[str]) -> None:
    """Pass on what a half prints, line by line, with its name before it."""
    assert half.stdout is not None
    for line in half.stdout:
        print(f"{name}| {line}", end="", flush=True)


def main() -> int:
    """Run both halves; further arguments are pytest's."""
    halves = {
        name: start(name, paths, sys.argv[1:])
        for name, paths in zip(("slow", "rest"), folders(), strict=True)
    }
    readers = [threading.Thread(target=tell, args=half) for half in halves.items()]
    for reader in readers:
        reader.start()
    try:
        statuses = [half.wait() for half in halves.values()]
    except BaseException:
        for half in halves.values():
            half.terminate()
        raise
    for reader in readers:
        reader.join()
    coverage = [sys.executable, "-m", "coverage"]
    data = [str(path) for name in halves for path in ROOT.glob(f".coverage.{name}*")]
    subprocess.run([*coverage, "combine", *data], cwd=ROOT, check=True)
    report = [*coverage, "report", f"--fail-under={COVERED}"]
    covered = subprocess.run(report, cwd=ROOT, check=False).returncode
    return max(*map(abs, statuses), covered)


if __name__ == "__main__":
    sys.exit(main())
