"""How much of what the database allows the API gives; exit status 1 below the limits.

`python bench/bench_api.py [seconds of one measurement]`. It starts its own servers and processes
on loopback and ends them. The limits are bare routes (`load/bare.py`), measured in turns with ours
on as many uvicorn workers; ratios are medians over the rounds.
"""

import asyncio
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from load.bench_stack import BenchStack  # noqa: E402
from load.generator import Generator, Load, request_bytes  # noqa: E402
from load.user_jobs import measure_fairness, measure_uploads  # noqa: E402

from devstack import ports, services, spawn  # noqa: E402
from devstack.processes import Service  # noqa: E402

ROUNDS = 5
SECONDS = 3.0
POLLED_JOBS = 64
USERS = 16
JOBS = "/api/v1/jobs"


@dataclass
class Row:
    """One line of a table: a route, and what must be reached of which other."""

    name: str
    port: int
    requests: list[bytes]
    status: int
    limit: float | None = None
    against: str = ""


def percentile(values: list[float], share: float) -> float:
    """The value that so large a share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


@contextmanager
def bare_server(stack: BenchStack) -> Iterator[int]:
    """The bare routes, on the same database."""
    port = ports.free_port()
    service = Service(
        "bare",
        [
            *(sys.executable, "-m", "uvicorn", "bare:app", "--no-access-log", "--no-proxy-headers"),
            *("--host", ports.HOST, "--port", str(port), "--log-level", "warning"),
        ],
        env={**os.environ, "BARE_DSN": stack.dsn},
        cwd=Path(__file__).parent / "load",
        log_path=stack.folder / "bare.log",
        ready=lambda pid: (
            spawn.listens(pid, port) and services.http_status(port, "/openapi.json") == 200
        ),
    )
    try:
        service.start()
        yield port
    finally:
        service.stop()


def measure(generator: Generator, rows: list[Row], seconds: float) -> bool:
    """Measure rows in turns and print their table; whether every limit was met."""
    loads: dict[str, list[Load]] = {row.name: [] for row in rows}
    for row in rows:
        generator.run(row.port, row.requests, 0.5)
    for _ in range(ROUNDS):
        for row in rows:
            load = generator.run(row.port, row.requests, seconds)
            if set(load.statuses) != {row.status}:
                raise SystemExit(f"{row.name} answered {dict(load.statuses)}")
            loads[row.name].append(load)
    print("\n| route | requests/s | p50 ms | p99 ms | of its limit | at least | |")
    print("|---|---:|---:|---:|---:|---:|---|")
    met = True
    for row in rows:
        rates = [len(load.latencies) / load.seconds for load in loads[row.name]]
        p50, p99 = (
            statistics.median(percentile(load.latencies, share) for load in loads[row.name]) * 1000
            for share in (0.5, 0.99)
        )
        line = f"| {row.name} | {statistics.median(rates):.0f} | {p50:.2f} | {p99:.2f} |"
        if row.against:
            limits = [len(load.latencies) / load.seconds for load in loads[row.against]]
            ratio = statistics.median(a / b for a, b in zip(rates, limits, strict=True))
            enough = row.limit is None or ratio >= row.limit
            met &= enough
            verdict = "" if row.limit is None else "met" if enough else "MISSED"
            print(f"{line} {ratio:.2f} | {row.limit or '-'} | {verdict} |", flush=True)
        else:
            print(f"{line} - | - | |", flush=True)
    return met


def routes(stack: BenchStack, bare: int) -> list[list[Row]]:
    """The tables of routes to measure."""
    api = stack.port
    running, queued = asyncio.run(stack.make_polled_jobs(POLLED_JOBS))
    key = {"x-api-key": stack.key}
    tags = stack.entity_tags(running)
    body = json.dumps({"model_id": "bench-v1", "input_params": {"size": 7}}).encode()
    select = [request_bytes("GET", f"/jobs/{job}") for job in running]
    poll = [request_bytes("GET", f"{JOBS}/{job}", key) for job in running]
    unchanged = [
        request_bytes("GET", f"{JOBS}/{job}", {**key, "If-None-Match": tag})
        for job, tag in zip(running, tags, strict=True)
    ]
    waiting = [request_bytes("GET", f"{JOBS}/{job}", key) for job in queued]
    create = [request_bytes("POST", f"{JOBS}/", key, body)]
    by_many = [
        request_bytes("POST", f"{JOBS}/", {"x-api-key": user_key}, body)
        for _, user_key in asyncio.run(stack.make_users(USERS))
    ]
    insert = [request_bytes("POST", "/jobs/", {}, body)]
    return [
        [
            Row("bare select", bare, select, 200),
            Row("poll, RUNNING", api, poll, 200, 0.7, "bare select"),
            Row("poll, unchanged", api, unchanged, 304, 0.9, "bare select"),
            Row("poll, QUEUED", api, waiting, 200, 0.7, "bare select"),
        ],
        [
            Row("bare insert", bare, insert, 201),
            Row("create", api, create, 201, 0.5, "bare insert"),
            Row(f"create, {USERS} users", api, by_many, 201, None, "bare insert"),
        ],
    ]


def main() -> int:
    """Measure everything; 1 if a limit was missed."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f} before")
    generator = Generator()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="bench-api-") as folder,
            BenchStack(Path(folder)) as stack,
        ):
            with bare_server(stack) as bare:
                met = True
                for rows in routes(stack, bare):
                    met &= measure(generator, rows, seconds)
            stack.empty()
            stack.start_dispatcher()
            met &= asyncio.run(measure_uploads(stack))
            met &= asyncio.run(measure_fairness(stack))
    finally:
        generator.close()
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
