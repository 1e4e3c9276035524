"""What a model that takes three seconds to load costs the jobs after the first."""

from pathlib import Path

from bench.worker_bench.dispatch import our_peer, rq_peer, running
from bench.worker_bench.pipelines import NoOpAfterSetup

OURS = our_peer("**ours**: `WarmWorker`", NoOpAfterSetup.name)
STOCK = rq_peer("RQ `Worker` (forks for each job)", "stock", 0, "rq_peer.no_op_after_setup")


def measure(redis_url: str, folder: Path, *, later: int) -> dict[str, list[float]]:
    """Enqueue → start of the first job and some later ones, in seconds."""
    starts = {}
    for number, (peer, jobs) in enumerate(((OURS, 1 + later), (STOCK, 2))):
        with running(peer, redis_url, folder / f"setup-{number}") as worker:
            starts[peer.name] = [worker.start_seconds() for _ in range(jobs)]
    return starts
