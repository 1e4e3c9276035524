"""Dramatiq with its defaults; results in Redis, as RQ keeps them."""

import os

import dramatiq
import producer
from clock import tell
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

broker = RedisBroker(url=os.environ["BENCH_REDIS"])
broker.add_middleware(Results(backend=RedisBackend(url=os.environ["BENCH_REDIS"])))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def no_op(number: int) -> str:
    """Do nothing."""
    tell(number)
    return "succeeded"


def enqueue(numbers: range) -> None:
    """Send a message for each."""
    for number in numbers:
        no_op.send(number)


if __name__ == "__main__":
    producer.serve(enqueue)
