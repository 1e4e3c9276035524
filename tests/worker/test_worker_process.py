"""Real worker processes on a real Redis."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
from fake_platform import WORKER_KEY, Platform
from rq import Callback, Queue, Worker
from rq.command import send_stop_job_command
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

from contract.tasks import RUN_ATTEMPT
from devstack.servers import RedisServer
from worker_vm.rq_job import AttemptJob

HERE = Path(__file__).parent
QUEUE = "test"
Start = Callable[..., "WorkerProcess"]


class WorkerProcess:
    """A worker started as its own process, with its log."""

    def __init__(self, folder: Path, settings: dict[str, str], arguments: tuple[str, ...]) -> None:
        self.log_path = folder / "worker.log"
        self._log = self.log_path.open("ab")
        self.popen = subprocess.Popen(
            [sys.executable, str(HERE / "worker_process.py"), *arguments],
            cwd=folder,
            env={**os.environ, **settings},
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def log(self) -> str:
        """All it wrote so far."""
        return self.log_path.read_text()

    def wait(self) -> int:
        """Its exit status."""
        return self.popen.wait(timeout=60)

    def stop(self) -> int:
        """Ask it to stop; its exit status."""
        self.popen.send_signal(signal.SIGTERM)
        return self.wait()

    def close(self) -> None:
        """End it for certain."""
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()
        self._log.close()


@pytest.fixture(scope="module")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_server(shared_redis: RedisServer) -> RedisServer:
    shared_redis.start()
    with redis.Redis.from_url(shared_redis.url) as client:
        client.flushall()
    return shared_redis


@pytest.fixture
def connection(redis_server: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_server.url) as client:
        yield client


@pytest.fixture
def queue(connection: redis.Redis) -> Queue:
    return Queue(QUEUE, connection=connection, serializer=JSONSerializer)


@pytest.fixture
def start(
    platform: Platform, redis_server: RedisServer, tmp_path: Path
) -> Iterator[Callable[..., WorkerProcess]]:
    started: list[WorkerProcess] = []

    def start(*arguments: str, path: str = "", **settings: str) -> WorkerProcess:
        folder = tmp_path / f"worker-{len(started)}"
        folder.mkdir()
        repository = str(HERE.parent.parent)
        defaults = {
            "REDIS_URL": redis_server.url,
            "API_URL": platform.url,
            "WORKER_API_KEY": WORKER_KEY,
            "WORKER_QUEUE": QUEUE,
            "WORKER_WORK_DIR": str(tmp_path / "runs"),
            "LOG_FORMAT": "json",
            "PYTHONPATH": os.pathsep.join(
                [repository, str(HERE), path, os.environ.get("PYTHONPATH", "")]
            ),
        }
        started.append(WorkerProcess(folder, {**defaults, **settings}, arguments))
        return started[-1]

    yield start
    for worker in started:
        worker.close()


def until(condition: Callable[[], Any], what: str = "it") -> None:
    """Wait for something that no event tells of."""
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen")


def push(queue: Queue, attempt_id: object, **options: Any) -> Job:
    """Enqueue an attempt as the dispatcher does."""
    return queue.enqueue(
        RUN_ATTEMPT, args=(str(attempt_id),), job_id=str(attempt_id), job_timeout=120, **options
    )


def status(job: Job) -> JobStatus:
    return job.get_status(refresh=True)


def do(platform: Platform, *steps: list[Any]) -> None:
    platform.spec["params"] = {"do": list(steps)}


def worker_names(connection: redis.Redis) -> list[str]:
    return sorted(worker.name for worker in Worker.all(connection=connection))


def horse_of(worker: WorkerProcess) -> int:
    """The process that runs the task."""
    pid = worker.popen.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    assert len(children) == 1, children
    return int(children[0])


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


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("os.system", ["touch $MARK"]),
        ("worker_vm.tasks.configure", ["x"]),
        ("trap.spring", ["$MARK"]),
        (RUN_ATTEMPT, ["not an id"]),
        (RUN_ATTEMPT, []),
        (RUN_ATTEMPT, [str(uuid4()), str(uuid4())]),
        (RUN_ATTEMPT, [{"id": 1}]),
    ],
)
def test_other_tasks_are_refused(
    platform: Platform,
    queue: Queue,
    start: Start,
    tmp_path: Path,
    function: str,
    arguments: list[Any],
) -> None:
    """A task that names anything else fails; nothing is imported, called or claimed."""
    mark = tmp_path / "mark"
    (tmp_path / "trap.py").write_text(
        f"from pathlib import Path\nPath({str(mark)!r}).touch()\n"
        f"def spring(*_): Path({str(mark)!r}).touch()\n"
    )
    filled = [a.replace("$MARK", str(mark)) if isinstance(a, str) else a for a in arguments]
    spring = Callback("trap.spring")
    job = queue.enqueue(function, args=filled, on_failure=spring, on_success=spring)
    worker = start("--burst", path=str(tmp_path))
    assert worker.wait() == 0, worker.log()
    assert status(job) is JobStatus.FAILED
    assert "ForbiddenTaskError" in job.latest_result().exc_string
    assert not mark.exists()
    assert platform.requests("claim") == []


def test_keyword_arguments_are_refused(queue: Queue, start: Start) -> None:
    """A task has one positional argument and nothing else."""
    job = queue.enqueue(RUN_ATTEMPT, kwargs={"attempt_id": str(uuid4())})
    assert start("--burst").wait() == 0
    assert status(job) is JobStatus.FAILED


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


def test_workers_have_names_of_their_own(connection: redis.Redis, start: Start) -> None:
    """Two workers on one host, and one after a SIGKILL, register side by side."""
    first, _ = start(), start()
    until(lambda: len(worker_names(connection)) == 2)
    first.popen.kill()
    first.wait()
    start()
    until(lambda: len(worker_names(connection)) == 3)


def test_an_idle_worker_stops_when_asked(connection: redis.Redis, start: Start) -> None:
    """SIGTERM ends an idle worker with status 0, and it signs off."""
    worker = start()
    until(lambda: worker_names(connection))
    assert worker.stop() == 0
    assert worker_names(connection) == []


def test_a_busy_worker_drains(
    platform: Platform, queue: Queue, start: Start, tmp_path: Path
) -> None:
    """After SIGTERM, even to all its processes, the running task ends well and no other begins."""
    go = tmp_path / "go"
    do(platform, ["progress", 1], ["wait_for", str(go)])
    first = push(queue, platform.attempt_id)
    worker = start()
    platform.wait_for(lambda: platform.requests("heartbeat"))
    second = push(queue, uuid4())
    horse = horse_of(worker)
    worker.popen.send_signal(signal.SIGTERM)
    os.kill(horse, signal.SIGTERM)
    until(lambda: "warm shut down requested" in worker.log())
    go.touch()
    assert worker.wait() == 0
    assert platform.outcome.outcome == "succeeded"
    assert status(first) is JobStatus.FINISHED
    assert status(second) is JobStatus.QUEUED
    assert queue.job_ids == [second.id]
    assert queue.intermediate_queue.get_job_ids() == []


def test_a_second_sigterm_ends_the_run(
    platform: Platform, queue: Queue, start: Start, tmp_path: Path
) -> None:
    """Who asks twice, a second apart, doesn't want to wait: the run is killed, nothing is left."""
    do(platform, ["progress", 1], ["work", 120])
    push(queue, platform.attempt_id)
    worker = start()
    platform.wait_for(lambda: platform.requests("heartbeat"))
    horse = horse_of(worker)
    worker.popen.send_signal(signal.SIGTERM)
    until(lambda: "warm shut down requested" in worker.log())
    time.sleep(1.1)
    assert worker.stop() == 0
    until(lambda: not Path(f"/proc/{horse}").exists(), "end of the horse")
    assert platform.finished is None
    assert list((tmp_path / "runs").iterdir()) == []


def test_redis_may_restart(
    platform: Platform,
    queue: Queue,
    redis_server: RedisServer,
    connection: redis.Redis,
    start: Start,
) -> None:
    """A worker waits for a Redis that is away, idle or busy, and goes on when it is back."""
    worker = start()
    until(lambda: worker_names(connection))
    redis_server.kill()
    until(lambda: "redis.away" in worker.log())
    time.sleep(5)
    redis_server.start()
    until(lambda: "redis.back" in worker.log())
    do(platform, ["progress", 1], ["work", 2])
    job = push(queue, platform.attempt_id)
    platform.wait_for(lambda: platform.requests("heartbeat"))
    redis_server.kill()
    platform.wait_for(lambda: platform.finished)
    redis_server.start()
    until(lambda: status(job) is JobStatus.FINISHED)
    assert worker.popen.poll() is None
    assert worker.stop() == 0


def test_a_worker_may_start_and_stop_without_redis(redis_server: RedisServer, start: Start) -> None:
    """Without Redis a worker says so and waits, and still stops when asked."""
    redis_server.stop()
    worker = start()
    until(lambda: "redis.away" in worker.log())
    worker.popen.send_signal(signal.SIGTERM)
    assert worker.wait() in {0, -signal.SIGTERM}


def test_an_idle_worker_stops_while_redis_is_away(
    redis_server: RedisServer, connection: redis.Redis, start: Start
) -> None:
    """A worker that waits for Redis obeys SIGTERM."""
    worker = start()
    until(lambda: worker_names(connection))
    redis_server.stop()
    until(lambda: "redis.away" in worker.log())
    assert worker.stop() == 0


def test_redis_may_be_flushed(
    platform: Platform, queue: Queue, connection: redis.Redis, start: Start, tmp_path: Path
) -> None:
    """After FLUSHALL, idle or in a run, the worker is registered again and takes tasks."""
    worker = start()
    until(lambda: worker_names(connection))
    names = worker_names(connection)
    connection.flushall()
    until(lambda: worker_names(connection) == names)
    go = tmp_path / "go"
    do(platform, ["progress", 1], ["wait_for", str(go)])
    push(queue, platform.attempt_id)
    platform.wait_for(lambda: platform.requests("heartbeat"))
    connection.flushall()
    go.touch()
    platform.wait_for(lambda: platform.finished)
    assert platform.outcome.outcome == "succeeded"
    until(lambda: worker_names(connection) == names)
    again = push(queue, uuid4())
    until(lambda: status(again) is not JobStatus.QUEUED)
    assert worker.stop() == 0


def test_a_killed_worker_leaves_no_process_and_its_folder_is_removed(
    platform: Platform, queue: Queue, start: Start, tmp_path: Path
) -> None:
    """SIGKILL takes the running task along; the next worker removes what lay on the disk."""
    do(platform, ["progress", 1], ["work", 120])
    push(queue, platform.attempt_id)
    worker = start()
    platform.wait_for(lambda: platform.requests("heartbeat"))
    horse = horse_of(worker)
    worker.popen.kill()
    worker.wait()
    until(lambda: not Path(f"/proc/{horse}").exists(), "end of the horse")
    left = list((tmp_path / "runs").iterdir())
    assert len(left) == 1
    start("--burst").wait()
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_killed_run_leaves_the_worker_alive(
    platform: Platform, queue: Queue, start: Start, tmp_path: Path
) -> None:
    """A task whose process dies fails for RQ; its folder goes, and the worker takes the next."""
    do(platform, ["progress", 1], ["work", 120])
    job = push(queue, platform.attempt_id)
    worker = start()
    platform.wait_for(lambda: platform.requests("heartbeat"))
    os.kill(horse_of(worker), signal.SIGKILL)
    until(lambda: status(job) is JobStatus.FAILED)
    assert platform.finished is None
    platform.claimed_by = None
    do(platform, ["progress", 1])
    again = push(queue, platform.attempt_id)
    until(lambda: status(again) is JobStatus.FINISHED)
    assert worker.stop() == 0
    assert list((tmp_path / "runs").iterdir()) == []


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


def test_a_stop_command_for_another_task_is_ignored(
    platform: Platform, queue: Queue, connection: redis.Redis, start: Start, tmp_path: Path
) -> None:
    """A stop that comes late doesn't hit the task that runs now."""
    go = tmp_path / "go"
    do(platform, ["progress", 1], ["wait_for", str(go)])
    push(queue, platform.attempt_id)
    worker = start()
    platform.wait_for(lambda: platform.requests("heartbeat"))
    command = json.dumps({"command": "stop-job", "job_id": str(uuid4())})
    connection.publish(f"rq:pubsub:{worker_names(connection)[0]}", command)
    until(lambda: "command.stale" in worker.log())
    go.touch()
    platform.wait_for(lambda: platform.finished)
    assert platform.outcome.outcome == "succeeded"


def test_a_deaf_run_is_ended_at_its_limit(platform: Platform, queue: Queue, start: Start) -> None:
    """A pipeline that hears nothing is reported for and ended; the worker goes on."""
    platform.spec["time_limit_seconds"] = 1
    do(platform, ["ignore_all", 120])
    job = push(queue, platform.attempt_id)
    worker = start()
    platform.wait_for(lambda: platform.finished, seconds=60)
    assert platform.outcome.code == "TIME_LIMIT_EXCEEDED"
    until(lambda: status(job) is JobStatus.FAILED)
    assert worker.stop() == 0


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
