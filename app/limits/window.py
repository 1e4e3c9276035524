"""The sliding window counter: how much of a quota was used within the last so many seconds.

Two counts of fixed windows stand for all requests: those of the one that is under way, and of the
one before it the share that the sliding window still covers, as if they had come evenly. It is the
arithmetic of `limits`' strategy of that name, whose counts in Redis these are; done here again
because between two looks at Redis time goes on.
"""

from dataclasses import dataclass
from math import ceil, floor


@dataclass(slots=True)
class Window:
    """Counts of one caller, as far as this process knows them.

    Args:
        seconds: how long the window is.
        ends_at: when the fixed window that is under way is over, by the monotonic clock.
        previous: requests of the one before it.
        current: requests of this one.
    """

    seconds: int
    ends_at: float
    previous: int = 0
    current: int = 0

    def _roll(self, now: float) -> None:
        while self.ends_at <= now:
            if self.ends_at <= now - self.seconds:
                self.previous, self.current, self.ends_at = 0, 0, now + self.seconds
                return
            self.previous, self.current = self.current, 0
            self.ends_at += self.seconds

    def used(self, now: float) -> int:
        """How many requests count now."""
        self._roll(now)
        if not self.previous:
            return self.current
        return floor(self.previous * (self.ends_at - now) / self.seconds) + self.current

    def add(self, now: float) -> None:
        """Count one more."""
        self._roll(now)
        self.current += 1

    def seconds_left(self, now: float) -> int:
        """Whole seconds until the fixed window that is under way is over."""
        self._roll(now)
        return ceil(self.ends_at - now)

    def free_in(self, quota: int, now: float) -> int:
        """Whole seconds, at least one, until one more request fits a quota if no other comes."""
        self._roll(now)
        left = self.ends_at - now
        room = quota - 1 - self.current
        if room >= 0:
            wait = left - self.seconds * (room + 1) / max(self.previous, 1)
        else:  # it has to become the previous window first, and then to pass by in part
            wait = left + self.seconds - self.seconds * quota / self.current
        return max(1, ceil(wait))
