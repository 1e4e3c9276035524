"""RQ: the stock worker, SimpleWorker, and the producer for them and for ours."""

import os
import sys
import time
from uuid import UUID

import producer
import redis
from clock import tell
from rq import Queue, SimpleWorker, Worker
from rq.serializers import JSONSerializer

WORKERS = {"stock": Worker, "simple": SimpleWorker}
SETUP_SECONDS = 3.0


class _Process:
    is_set_up = False


def no_op(number: str) -> str:
    """Do nothing."""
    tell(UUID(number).int)
    return "succeeded"


def no_op_after_setup(number: str) -> str:
    """Do nothing, once this process has loaded what it needs."""
    if not _Process.is_set_up:
        time.sleep(SETUP_SECONDS)
        _Process.is_set_up = True
    return no_op(number)


def work(kind: str, queue: str) -> None:
    """Be a worker."""
    connection = redis.Redis.from_url(os.environ["BENCH_REDIS"])
    worker = WORKERS[kind]([queue], connection=connection, serializer=JSONSerializer)
    worker.work(logging_level="WARNING")


def produce(queue_name: str, function: str) -> None:
    """Be a producer: what the platform's dispatcher does, with the same settings for each job."""
    connection = redis.Redis.from_url(os.environ["BENCH_REDIS"])
    queue = Queue(queue_name, connection=connection, serializer=JSONSerializer)

    def enqueue(numbers: range) -> None:
        ids = [str(UUID(int=number)) for number in numbers]
        queue.enqueue_many(
            [
                Queue.prepare_data(function, args=(id_,), job_id=id_, timeout=300, result_ttl=500)
                for id_ in ids
            ]
        )

    producer.serve(enqueue)


if __name__ == "__main__":
    {"work": work, "produce": produce}[sys.argv[1]](*sys.argv[2:])
