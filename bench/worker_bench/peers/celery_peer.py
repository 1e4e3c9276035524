"""Celery with its defaults; results in Redis, as RQ keeps them."""

import os

import producer
from celery import Celery
from clock import tell

app = Celery("celery_peer", broker=os.environ["BENCH_REDIS"], backend=os.environ["BENCH_REDIS"])
app.conf.broker_connection_retry_on_startup = True


@app.task(name="no_op")  # type: ignore[untyped-decorator]
def no_op(number: int) -> str:
    """Do nothing."""
    tell(number)
    return "succeeded"


def enqueue(numbers: range) -> None:
    """Send a message for each."""
    for number in numbers:
        no_op.apply_async((number,))


if __name__ == "__main__":
    producer.serve(enqueue)
