"""Compares what clients were told with what is there. Each check answers sentences of complaint."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]

from app.jobs.lifecycle import FINAL_JOB_STATUSES
from tests.faults.clients import JOBS, Told
from tests.faults.cluster import MAX_ACTIVE, WORKERS, Cluster

TOO_LATE = "It had finished before the cancellation reached the worker."

PATH: dict[str, dict[str, str]] = {
    "": {"job.created": "waiting"},
    "waiting": {"job.dispatched": "dispatched", "job.cancelled": "CANCELLED"},
    "dispatched": {
        "job.started": "running",
        "attempt.withdrawn": "waiting",
        "job.cancelled": "CANCELLED",
    },
    "running": {
        "preview.added": "running",
        "artifact.added": "running",
        "job.cancel_requested": "cancelling",
        "attempt.lost": "lost",
        "attempt.released": "waiting",
        "job.retry_scheduled": "waiting",
        "job.succeeded": "SUCCEEDED",
        "job.failed": "FAILED",
    },
    "cancelling": {
        "preview.added": "cancelling",
        "artifact.added": "cancelling",
        "attempt.lost": "cancelled and lost",
        "job.cancelled": "CANCELLED",
        "job.succeeded": "SUCCEEDED",
    },
    "lost": {"job.retry_scheduled": "waiting", "job.failed": "FAILED"},
    "cancelled and lost": {"job.cancelled": "CANCELLED"},
}
"""Which event may follow in which state of a job that nobody retries or lets expire."""

STARTS_ACTIVE = "job.dispatched"
ENDS_ACTIVE = frozenset(
    {
        *("attempt.withdrawn", "attempt.released", "job.retry_scheduled"),
        *("job.succeeded", "job.failed", "job.cancelled"),
    }
)

TELLS = {
    "job.created": "job.created",
    "job.started": "job.started",
    "job.succeeded": "job.completed",
    "job.failed": "job.failed",
    "job.cancelled": "job.cancelled",
}
"""Which message is sent of an event."""

Event = dict[str, Any]


class Records:
    """What the database holds at the end."""

    def __init__(self, cluster: Cluster) -> None:
        self.jobs = {
            row["id"]: row
            for row in cluster.query(
                "SELECT id, user_id, status, message, error_code, idempotency_key FROM jobs"
            )
        }
        self.attempts = cluster.query("SELECT id, job_id, status FROM attempts")
        self.events: dict[str, list[Event]] = defaultdict(list)
        for event in cluster.query(
            "SELECT id, job_id, attempt_id, type, created_at FROM job_events ORDER BY id"
        ):
            event["at"] = datetime.fromisoformat(event["created_at"]).timestamp()
            self.events[event["job_id"]].append(event)
        self.deliveries: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for delivery in cluster.query("SELECT event_id, job_id, type, status FROM deliveries"):
            self.deliveries[delivery["job_id"]].append(delivery)

    @property
    def successes(self) -> list[float]:
        """When jobs succeeded."""
        return sorted(
            event["at"]
            for events in self.events.values()
            for event in events
            if event["type"] == "job.succeeded"
        )


def lost_jobs(told: Iterable[Told], records: Records) -> list[str]:
    """Every job that was acknowledged, and every other one, is in a final state."""
    missing = [
        f"job {job_id} was acknowledged and does not exist"
        for page in told
        for job_id in page.ids
        if job_id not in records.jobs
    ]
    stuck = [
        f"job {job['id']} is {job['status']} for ever"
        for job in records.jobs.values()
        if job["status"] not in FINAL_JOB_STATUSES
    ]
    return missing + stuck


def doubled_jobs(told: Iterable[Told], records: Records) -> list[str]:
    """One job for each idempotency key, and at most one success for each job."""
    by_key: dict[str, set[str]] = defaultdict(set)
    for job in records.jobs.values():
        by_key[job["idempotency_key"]].add(job["id"])
    keys = [
        f"key {page.key} made {by_key[page.key]} and was answered with {page.ids}"
        for page in told
        if len(by_key[page.key] | page.ids) > 1
    ]
    successes: dict[str, int] = defaultdict(int)
    for attempt in records.attempts:
        successes[attempt["job_id"]] += attempt["status"] == "SUCCEEDED"
    return keys + [
        f"job {job_id} is {job['status']} with {successes[job_id]} successful attempts"
        for job_id, job in records.jobs.items()
        if successes[job_id] != (job["status"] == "SUCCEEDED")
    ]


def illegal_paths(records: Records) -> list[str]:
    """Events of each job form a path of the life cycle that ends in the job's status."""
    complaints = []
    for job_id, job in records.jobs.items():
        state, attempt = "", None
        for event in records.events[job_id]:
            attempt = event["attempt_id"] if event["type"] == STARTS_ACTIVE else attempt
            foreign = event["attempt_id"] not in {None, attempt}
            if event["type"] not in PATH.get(state, {}) or foreign:
                complaints.append(f"job {job_id}: {event} after {state or 'nothing'}")
                break
            state = PATH[state][event["type"]]
        else:
            if state != job["status"]:
                complaints.append(f"job {job_id} is {job['status']}; its events say {state}")
    return complaints


def too_many_active(most_sampled: int, records: Records) -> list[str]:
    """No user had more active jobs than allowed: neither in any sample nor by the events.

    Whoever takes a slot writes its event after the transaction that gave the slot free, which has
    written its own before: the order of events is that of the slots, whatever their times say.
    """
    active: dict[str, set[str]] = defaultdict(set)
    complaints = []
    if most_sampled > MAX_ACTIVE:
        complaints.append(f"a user had {most_sampled} active jobs in a sample")
    events = [event for of_job in records.events.values() for event in of_job]
    for event in sorted(events, key=lambda event: event["id"]):
        mine = active[records.jobs[event["job_id"]]["user_id"]]
        if event["type"] == STARTS_ACTIVE:
            mine.add(event["job_id"])
        elif event["type"] in ENDS_ACTIVE:
            mine.discard(event["job_id"])
        if len(mine) > MAX_ACTIVE:
            complaints.append(f"{len(mine)} active jobs of a user at {event}: {sorted(mine)}")
    return complaints


def unexplained_cancellations(told: Iterable[Told], records: Records) -> list[str]:
    """A cancellation that was accepted ends the job, or the job says why it succeeded."""
    complaints = []
    for page in told:
        job = records.jobs.get(next(iter(page.ids), ""))
        if job is None or page.cancel is None or page.cancel[0] != httpx.codes.OK:
            continue
        too_late = (
            page.cancel[1] == "RUNNING"
            and job["status"] == "SUCCEEDED"
            and job["message"] == TOO_LATE
        )
        if job["status"] != "CANCELLED" and not too_late:
            complaints.append(f"job {job['id']}: cancel said {page.cancel}, but it is {job}")
    return complaints


def bad_messages(taken: frozenset[str] | set[str], records: Records) -> list[str]:
    """Of each event there is one message for the user's webhook, which was taken or still waits."""
    complaints = []
    for job_id in records.jobs:
        messages = records.deliveries[job_id]
        due = Counter(TELLS[e["type"]] for e in records.events[job_id] if e["type"] in TELLS)
        queued = Counter(message["type"] for message in messages)
        if queued != due:
            complaints.append(f"job {job_id}: messages {queued} of events {due}")
        complaints += [
            f"job {job_id}: {message} was {'' if message['event_id'] in taken else 'not '}taken"
            for message in messages
            if message["status"] == "FAILED"
            or (message["status"] == "DELIVERED" and message["event_id"] not in taken)
        ]
    return complaints


def bad_artifacts(api_url: str, told: Iterable[Told], records: Records) -> list[str]:
    """What clients see of a job that succeeded is the winner's, and in storage as recorded."""
    winners = {a["job_id"]: a["id"] for a in records.attempts if a["status"] == "SUCCEEDED"}
    complaints = []
    with (
        httpx.Client(base_url=api_url, timeout=30, trust_env=False) as http,
        httpx.Client(timeout=30, trust_env=False) as storage,
    ):
        for page in told:
            for job_id in page.ids & winners.keys():
                headers = {"x-api-key": page.account.key}
                answer = http.get(f"{JOBS}/{job_id}/artifacts", headers=headers)
                items = answer.json()["items"]
                if "model_3d" not in {item["kind"] for item in items}:
                    complaints.append(f"job {job_id} succeeded without a model")
                for item in items:
                    content = storage.get(item["url"])
                    if hashlib.sha256(content.content).hexdigest() != item["sha256"]:
                        complaints.append(f"job {job_id}: {item['name']} is not as recorded")
                    if f"/{job_id}/{winners[job_id]}/" not in item["url"]:
                        complaints.append(f"job {job_id} shows a loser's {item['url']}")
    return complaints


def orphans(cluster: Cluster, left_behind: Iterable[psutil.Process]) -> list[str]:
    """Nothing that a killed worker had started lives; each worker has at most one host."""
    complaints = [f"{p} has lost its worker and lives" for p in left_behind if _lives(p)]
    for name in WORKERS:
        children = psutil.Process(cluster.stack.services[name].pid).children()
        if len(children) > 1:
            complaints.append(f"{name} has {len(children)} children: {children}")
    return complaints


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
