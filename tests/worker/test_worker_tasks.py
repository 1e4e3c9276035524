"""What a worker takes from Redis, what it refuses, and what RQ's tools see of it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
from fake_platform import Platform
from rq import Callback, Queue, Worker
from rq.command import send_stop_job_command
from rq.job import JobStatus
from rq.serializers import JSONSerializer
from worker_support import QUEUE, Start, do, every_pipeline, push, status, until, worker_names

from contract.tasks import RUN_ATTEMPT
from devstack.servers import RedisServer
from worker_vm.rq_job import AttemptJob


def test_a_task_runs_and_the_worker_ends_its_burst(
    platform: Platform, queue: Queue, start: Start
) -> None:
    """A pushed attempt is claimed, run and reported; RQ keeps the outcome in a word."""
    do(platform, ["progress", 10], ["artifact", "still.png"])
    job = push(queue, platform.attempt_id)
    worker = start("--burst")
    assert worker.wait() == 0, worker.log()
    assert platform.outcome.outcome == "succeeded"
    assert status(job) is JobStatus.FINISHED
    assert job.latest_result().return_value == "succeeded"
    assert platform.workers[0].pipelines
    assert platform.workers[-1].stopping


def test_the_worker_tells_what_it_is(platform: Platform, start: Start) -> None:
    """The first heartbeat names the machine, its libraries and its pipelines."""
    worker = start()
    platform.wait_for(lambda: platform.workers)
    beat = platform.workers[0]
    assert beat.queue == QUEUE
    assert beat.cpu_count >= 1
    assert beat.memory_total_mib > 0
    assert {"python", "rq", "numpy"} <= beat.versions.keys()
    (scripted,) = [status for status in beat.pipelines if status.name == "scripted"]
    assert (scripted.runnable, scripted.version, scripted.warm) == (True, "1.2", False)
    assert worker.stop() == 0
    assert platform.workers[-1].stopping
    assert platform.workers[-1].name == beat.name


def test_other_tasks_are_refused(
    platform: Platform, queue: Queue, start: Start, tmp_path: Path
) -> None:
    """A task that names anything else fails; nothing is imported, called or claimed."""
    mark = str(tmp_path / "mark")
    (tmp_path / "trap.py").write_text(
        f"from pathlib import Path\nPath({mark!r}).touch()\n"
        f"def spring(*_): Path({mark!r}).touch()\n"
    )
    tasks: list[tuple[str, list[Any], dict[str, Any]]] = [
        ("os.system", [f"touch {mark}"], {}),
        ("worker_vm.tasks.configure", ["x"], {}),
        ("trap.spring", [mark], {}),
        (RUN_ATTEMPT, ["not an id"], {}),
        (RUN_ATTEMPT, [], {}),
        (RUN_ATTEMPT, [str(uuid4()), str(uuid4())], {}),
        (RUN_ATTEMPT, [{"id": 1}], {}),
        (RUN_ATTEMPT, [], {"attempt_id": str(uuid4())}),
    ]
    spring = Callback("trap.spring")
    jobs = [
        queue.enqueue(name, args=args, kwargs=kwargs, on_failure=spring, on_success=spring)
        for name, args, kwargs in tasks
    ]
    worker = start("--burst", path=str(tmp_path))
    assert worker.wait() == 0, worker.log()
    for task, job in zip(tasks, jobs, strict=True):
        assert status(job) is JobStatus.FAILED, task
        assert "ForbiddenTaskError" in job.latest_result().exc_string, task
    assert not Path(mark).exists()
    assert platform.requests("claim") == []


def test_the_allowed_name_is_the_function(connection: redis.Redis) -> None:
    """The contract's name of the task is what the worker calls."""
    job = AttemptJob.create(
        RUN_ATTEMPT, args=(str(uuid4()),), connection=connection, serializer=JSONSerializer
    )
    assert f"{job.func.__module__}.{job.func.__name__}" == RUN_ATTEMPT


def test_unreadable_tasks_are_passed_over(
    platform: Platform, connection: redis.Redis, queue: Queue, start: Start
) -> None:
    """Rubbish in the queue, or a pickle, ends neither the worker nor the tasks behind it."""
    pickled = Queue(QUEUE, connection=connection)
    bad = pickled.enqueue("os.system", "true")
    broken = queue.enqueue(RUN_ATTEMPT, str(uuid4()))
    connection.hset(broken.key, "created_at", "yesterday")
    connection.rpush(queue.key, "no-such-job")
    push(queue, platform.attempt_id)
    worker = start("--burst")
    assert worker.wait() == 0, worker.log()
    assert platform.outcome.outcome == "succeeded"
    assert status(bad) is JobStatus.FAILED


def test_rq_tools_see_an_ordinary_worker(
    platform: Platform,
    queue: Queue,
    connection: redis.Redis,
    redis_server: RedisServer,
    start: Start,
) -> None:
    """`rq info` lists the worker, its queue and its state."""
    do(platform, ["progress", 1], ["work", 120])
    push(queue, platform.attempt_id)
    start()
    platform.wait_for(lambda: platform.requests("heartbeat"))
    told = subprocess.run(
        [sys.executable, "-m", "rq.cli", "info", "--url", redis_server.url, "--raw"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (name,) = worker_names(connection)
    assert f"worker {name} " in told
    assert f"busy {QUEUE}" in told
    (worker,) = Worker.all(connection=connection, serializer=JSONSerializer)
    assert worker.get_current_job_id() == str(platform.attempt_id)


def test_a_stop_command_cancels_the_run(
    platform: Platform, queue: Queue, connection: redis.Redis, start: Start
) -> None:
    """RQ's stop command makes the run report that it was cancelled."""
    do(platform, ["progress", 1], ["work", 120])
    job = push(queue, platform.attempt_id)
    worker = start()
    platform.wait_for(lambda: platform.requests("heartbeat"))
    connection.publish(f"rq:pubsub:{worker_names(connection)[0]}", b"not json")
    platform.cancel_requested = True
    send_stop_job_command(connection, job.id, serializer=JSONSerializer)
    platform.wait_for(lambda: platform.finished)
    assert platform.outcome.outcome == "cancelled"
    until(lambda: status(job) is JobStatus.FINISHED)
    assert worker.stop() == 0


def test_a_stop_command_for_an_earlier_task_is_ignored(
    platform: Platform, queue: Queue, connection: redis.Redis, start: Start, tmp_path: Path
) -> None:
    """A stop that comes late doesn't hit the task that runs now."""
    earlier = push(queue, platform.attempt_id)
    worker = start()
    until(lambda: status(earlier) is JobStatus.FINISHED)
    platform.new_attempt()
    go = tmp_path / "go"
    do(platform, ["progress", 1], ["wait_for", str(go)])
    push(queue, platform.attempt_id)
    platform.wait_for(lambda: platform.requests("heartbeat"))
    command = json.dumps({"command": "stop-job", "job_id": earlier.id})
    connection.publish(f"rq:pubsub:{worker_names(connection)[0]}", command)
    until(lambda: "command.stale" in worker.log())
    go.touch()
    platform.wait_for(lambda: platform.finished)
    assert platform.outcome.outcome == "succeeded"


@pytest.mark.parametrize("asked", [True, False])
def test_a_stop_command_ends_a_deaf_run(
    platform: Platform,
    queue: Queue,
    connection: redis.Redis,
    start: Start,
    asked: bool,  # noqa: FBT001
) -> None:
    """Without a report of its own the run is killed; the same worker runs the next task."""
    do(platform, ["progress", 1], ["hold_gil", 120])
    job = push(queue, platform.attempt_id)
    worker = start()
    platform.wait_for(lambda: platform.requests("heartbeat"))
    platform.cancel_requested = asked
    send_stop_job_command(connection, job.id, serializer=JSONSerializer)
    platform.wait_for(lambda: platform.finished)
    assert platform.outcome.outcome == ("cancelled" if asked else "released")
    until(lambda: status(job) is JobStatus.FINISHED)
    platform.new_attempt()
    do(platform)
    again = push(queue, platform.attempt_id)
    until(lambda: status(again) is JobStatus.FINISHED)
    assert platform.outcome.outcome == "succeeded"
    assert worker.stop() == 0


def test_a_worker_without_hosts_takes_nothing(
    platform: Platform, queue: Queue, connection: redis.Redis, start: Start
) -> None:
    """A worker whose pipelines' process does not start leaves tasks to others, and says why."""
    worker = start(WORKER_PIPELINES=every_pipeline("scripted_pipeline:Scripted@/bin/false"))
    job = push(queue, platform.attempt_id)
    platform.wait_for(lambda: platform.workers)
    until(lambda: worker_names(connection))
    for told in platform.workers[-1].pipelines:
        assert not told.runnable
        assert "/bin/false exited with status 1 before it was ready" in told.reasons[0]
    assert status(job) is JobStatus.QUEUED
    assert worker.stop() == 0
