"""What the worker writes to Redis for a job, against what RQ's own worker writes."""

import math
import re
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
import redis
from fake_platform import Platform
from rq import Queue, Worker
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer
from rq.suspension import resume, suspend
from rq.worker import WorkerStatus
from worker_support import QUEUE, Start, push, status, until

from contract.tasks import RUN_ATTEMPT
from worker_vm import runner, tasks
from worker_vm.redis_batch import RedisBatch
from worker_vm.rq_bookkeeping import ThriftyWorker
from worker_vm.rq_job import AttemptJob
from worker_vm.runner import RunHost

_NOW = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z|\b1\d{9}(\.\d+)?\b")
"""A time of this century, as RQ writes them."""

State = dict[str, Any]
Run = Callable[..., str]


class InPlace(Worker):
    """RQ's worker without the fork: it runs jobs right here, as `SimpleWorker` does."""

    def execute_job(self, job: Job, queue: Queue) -> None:
        """See `SimpleWorker`, whose jobs are given up later than those of `Worker` and ours."""
        self.prepare_execution(job)
        self.perform_job(job, queue)
        self.set_state(WorkerStatus.IDLE)


class Thrifty(InPlace, ThriftyWorker):
    """Ours, without a pipeline host."""

    job_class = AttemptJob


def make(kind: type[Worker], connection: redis.Redis) -> Worker:
    """A registered worker."""
    worker = kind([QUEUE], name="w1", connection=connection, serializer=JSONSerializer)
    worker.register_birth()
    return worker


def work_off(worker: Worker) -> None:
    """Run every job of the queue."""
    while (taken := worker.dequeue_job_and_maintain_ttl(None)) is not None:
        worker.execute_job(*taken)


def content(connection: redis.Redis, key: bytes) -> Any:
    """What a key holds; times and the execution's id, which differ from run to run, are masked."""
    match connection.type(key):
        case b"hash":
            held: Any = connection.hgetall(key)
        case b"zset":
            # Scores are times: when the entry is over.
            held = connection.zrange(key, 0, -1)
        case b"stream":
            held = [entry for _, entry in connection.xrange(key)]
        case b"list":
            held = connection.lrange(key, 0, -1)
        case b"set":
            held = connection.smembers(key)
        case _:
            held = connection.get(key)
    return held


def everything(connection: redis.Redis) -> State:
    """All that Redis holds, comparable with what another run has left."""
    state: State = {}
    executions = [key.rpartition(b":")[2].decode() for key in connection.keys("rq:execution:*")]
    for key in connection.scan_iter():
        held = content(connection, key)
        if isinstance(held, dict):
            # Measured, not counted.
            held.pop(b"total_working_time", None)
            held = sorted(held.items())
        text = _NOW.sub("<time>", repr(held))
        name = key.decode()
        for execution in executions:
            text = text.replace(execution, "<execution>")
            name = name.replace(execution, "<execution>")
        # A worker's own key is kept for one or two minutes more, as long as it lives.
        ttl = None if name.startswith("rq:worker:") else connection.ttl(key)
        state[name] = (re.sub(r"\b[0-9a-f]{32}\b", "<id>", text), ttl)
    return state


def same(ours: State, theirs: State) -> None:
    """Both hold the same, to be forgotten at the same time (a slow machine's seconds apart)."""
    assert {name: held for name, (held, _) in ours.items()} == {
        name: held for name, (held, _) in theirs.items()
    }
    for name, (_, ttl) in ours.items():
        other = theirs[name][1]
        assert (ttl is None) == (other is None)
        assert ttl is None or abs(ttl - other) < 30
        assert ttl is None or (ttl < 0) == (other < 0)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, host: RunHost) -> Callable[[Run], None]:
    """Says what running an attempt is."""
    monkeypatch.setattr(tasks._Process, "host", host)

    def use(function: Run) -> None:
        monkeypatch.setattr(runner, "run_attempt", function)

    return use


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("result_ttl", [500, -1, 0])
@pytest.mark.parametrize("dependent", [False, True])
def test_redis_holds_what_rq_would_leave(
    connection: redis.Redis,
    queue: Queue,
    run: Callable[[Run], None],
    *,
    fails: bool,
    result_ttl: int,
    dependent: bool,
) -> None:
    """During a job and after it, keys, fields and times to live are those of RQ's worker."""
    seen: list[State] = []
    attempt_id, other_id = uuid4(), uuid4()

    def look(_host: RunHost, _attempt: object) -> str:
        seen.append(everything(connection))
        if fails:
            raise RuntimeError("a failure of ours")
        return "succeeded"

    run(look)
    for kind in (Thrifty, InPlace):
        connection.flushall()
        job = push(queue, attempt_id, result_ttl=result_ttl, ttl=600)
        if dependent:
            elsewhere = Queue("elsewhere", connection=connection, serializer=JSONSerializer)
            elsewhere.enqueue(RUN_ATTEMPT, str(other_id), job_id=str(other_id), depends_on=job)
        work_off(make(kind, connection))
        seen.append(without_traceback(everything(connection)))
        if dependent and not fails:
            assert elsewhere.get_job_ids() == [str(other_id)]
    during, after, during_theirs, after_theirs = seen
    same(during, during_theirs)
    same(after, after_theirs)
    assert f"rq:execution:{attempt_id}:<execution>" in during
    assert (f"rq:job:{attempt_id}" in after) is (fails or result_ttl != 0)


def without_traceback(state: State) -> State:
    """The traceback names the lines that were passed through, which are other ones here."""
    return {
        name: (re.sub(r"b'exc_string': b'[^']+'", "b'exc_string'", held), ttl)
        for name, (held, ttl) in state.items()
    }


def test_a_job_is_four_messages(
    connection: redis.Redis,
    queue: Queue,
    run: Callable[[Run], None],
) -> None:
    """Popped, read, begun, ended: so often, and no more, does Redis hear of a job."""
    run(lambda _host, _attempt: "succeeded")
    worker = make(Thrifty, connection)
    push(queue, uuid4())
    work_off(worker)  # the first one brings the script along
    worker._registered_at = math.inf  # no heartbeat is due

    def messages() -> int:
        count: int = connection.info("stats")["total_reads_processed"]
        return count

    own = -messages() + messages()
    jobs = 5
    for _ in range(jobs):
        push(queue, uuid4())
    before = messages()
    work_off(worker)
    # The last look finds the queue empty.
    assert messages() - before == own + 4 * jobs + 1


def test_a_batch_outlives_the_scripts(connection: redis.Redis) -> None:
    """A Redis that has forgotten its scripts, as after a restart, is given them again."""
    batch = RedisBatch(connection)
    for number in (1, 2):
        connection.script_flush()
        with connection.pipeline() as pipeline:
            pipeline.incr("counted")
            pipeline.hset("hash", mapping={"é": 'a "word"\n', "number": 0.25})
            assert batch.execute(pipeline) == number
            assert len(pipeline) == 0
    assert connection.hgetall("hash") == {"é".encode(): b'a "word"\n', b"number": b"0.25"}


def test_a_batch_fails_as_its_command_does(connection: redis.Redis) -> None:
    """An error names the reason; what comes after it in the batch is not executed."""
    connection.set("text", "a")
    with connection.pipeline() as pipeline:
        pipeline.incr("text").set("text", "b")
        with pytest.raises(redis.ResponseError, match="not an integer"):
            RedisBatch(connection).execute(pipeline)
    assert connection.get("text") == b"a"


def test_an_idle_worker_can_be_suspended(
    platform: Platform, queue: Queue, connection: redis.Redis, start: Start
) -> None:
    """`rq suspend` holds an idle worker within a second, and `rq resume` lets it go on."""
    worker = start()

    def registered() -> list[Worker]:
        return Worker.all(connection=connection, serializer=JSONSerializer)

    until(lambda: [one.get_state() for one in registered()] == ["idle"])
    suspend(connection)
    until(lambda: [one.get_state() for one in registered()] == ["suspended"])
    job = push(queue, platform.attempt_id)
    (before,) = registered()
    until(lambda: registered()[0].last_heartbeat > before.last_heartbeat, "another look")
    assert status(job) is JobStatus.QUEUED
    resume(connection)
    until(lambda: status(job) is JobStatus.FINISHED)
    assert worker.stop() == 0


def test_a_suspended_worker_that_is_stopped_takes_nothing_more(
    platform: Platform, queue: Queue, connection: redis.Redis, start: Start
) -> None:
    """What waits stays in the queue for whoever comes after the maintenance."""
    worker = start()

    def states() -> list[str]:
        return [one.get_state() for one in Worker.all(connection=connection)]

    until(lambda: states() == ["idle"], "a worker that looks for tasks")
    suspend(connection)
    until(lambda: states() == ["suspended"])
    job = push(queue, platform.attempt_id)
    assert worker.stop() == 0
    resume(connection)
    assert status(job) is JobStatus.QUEUED
    assert queue.job_ids == [job.id]
