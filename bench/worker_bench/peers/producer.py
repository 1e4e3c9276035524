"""A process that enqueues on command, in the peer's own environment.

Each line of its input is `FIRST COUNT`; it answers when it began to enqueue, once all are enqueued.
"""

import sys
import time
from collections.abc import Callable


def serve(enqueue: Callable[[range], object]) -> None:
    """Obey until the input ends."""
    for line in sys.stdin:
        first, count = map(int, line.split())
        began = time.monotonic_ns()
        enqueue(range(first, first + count))
        print(began, flush=True)
