"""Trying again: waits that double, with jitter, until a time limit."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class RetryPolicy:
    """How patient a call is; all in seconds."""

    first_wait: float = 0.5
    longest_wait: float = 15
    give_up_after: float = 300

    def wait(self, failures: int) -> float:
        """The wait after this many failures: half fixed, half random, so that herds disperse."""
        ceiling = min(self.longest_wait, self.first_wait * 2.0 ** min(failures - 1, 30))
        return ceiling / 2 + random.uniform(0, ceiling / 2)  # noqa: S311  (no secret)


def sleep(seconds: float) -> bool:
    """The plain pause: nothing interrupts it."""
    time.sleep(seconds)
    return False


def retry(
    call: Callable[[], T],
    *,
    policy: RetryPolicy,
    retryable: Callable[[Exception], bool],
    pause: Callable[[float], bool] = sleep,
    on_failure: Callable[[Exception, float], None] | None = None,
) -> T:
    """Call until it succeeds, fails for good or the policy's time is over.

    Args:
        call: what to try.
        policy: how long and how often.
        retryable: whether an error may pass by itself.
        pause: waits and says whether to stop trying; `threading.Event.wait` fits.
        on_failure: told of each failure that is tried again, with the wait in seconds.

    Raises:
        Exception: the last error of `call`.
    """
    started = time.monotonic()
    failures = 0
    while True:
        try:
            return call()
        except Exception as error:
            failures += 1
            wait = policy.wait(failures)
            over = time.monotonic() - started + wait > policy.give_up_after
            if over or not retryable(error):
                raise
            if on_failure is not None:
                on_failure(error, wait)
            if pause(wait):
                raise
