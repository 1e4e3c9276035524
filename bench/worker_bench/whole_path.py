"""The whole path of a job that does nothing: POST → SUCCEEDED, stage by stage."""

import time
from dataclasses import dataclass
from datetime import datetime

from bench.worker_bench.pipelines import NoOpWithFile
from bench.worker_bench.platform import START_SECONDS, Platform

STAGES = (
    ("POST sent → job written", "posted", "job.created"),
    ("→ admitted by the dispatcher", "job.created", "job.dispatched"),
    ("→ claimed by the worker", "job.dispatched", "job.started"),
    ("→ `run()` begins in the child", "job.started", "run"),
    ("→ its file stored and checked, job SUCCEEDED", "run", "job.succeeded"),
    ("→ the client knows", "job.succeeded", "known"),
)
_GAP_SECONDS = 0.05
_FINISHED = """
SELECT extract(epoch FROM attempts.finished_at) AS at FROM attempts JOIN jobs ON jobs.id = job_id
WHERE attempts.model_id = $1 AND jobs.created_at >= to_timestamp($2) AND attempts.finished_at > (
    SELECT max(created_at) FROM jobs)
ORDER BY attempts.finished_at
"""


@dataclass(frozen=True)
class Followed:
    """One job."""

    total: float
    stages: list[float]


def follow(platform: Platform) -> Followed:
    """Run one job and time its stages; all clocks are this machine's."""
    times = {"posted": time.time()}
    began = time.perf_counter()
    events = platform.wait(platform.submit(NoOpWithFile.name))
    total = time.perf_counter() - began
    times["known"] = times["posted"] + total
    for event in events:
        times.setdefault(event.type, datetime.fromisoformat(event.at).timestamp())
    if "job.succeeded" not in times:
        raise SystemExit(f"A job that does nothing did not succeed: {events}")
    times["run"] = platform.ear.next(START_SECONDS).wall_seconds
    return Followed(total, [times[end] - times[start] for _, start, end in STAGES])


def measure(platform: Platform, jobs: int) -> list[Followed]:
    """Run jobs one after the other."""
    paths = []
    for _ in range(jobs):
        paths.append(follow(platform))
        time.sleep(_GAP_SECONDS)
    return paths


def jobs_per_second(platform: Platform, jobs: int) -> float:
    """How fast a backlog is worked off, claim to report, once the last POST is answered."""
    began = time.time()
    for job_id in [platform.submit(NoOpWithFile.name, heard=False) for _ in range(jobs)]:
        platform.wait(job_id)
    times = [float(row["at"]) for row in platform.query(_FINISHED, NoOpWithFile.name, began)]
    return (len(times) - 1) / (times[-1] - times[0])
