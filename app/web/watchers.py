"""How many requests of one user may wait for news at the same time."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar
from uuid import UUID

from app.errors import AppError

MAX_WATCHERS = 50


class TooManyWatchersError(AppError):
    """Too many of your requests are waiting for news. Close some streams, or poll instead."""

    status: ClassVar[int] = 429
    code: ClassVar[str] = "TOO_MANY_WATCHERS"


class Watchers:
    """Counts the waiting requests of this process: event streams and `Prefer: wait`."""

    def __init__(self) -> None:
        self._waiting: Counter[UUID] = Counter()

    def check(self, user_id: UUID) -> None:
        """Raise `TooManyWatchersError` if one more would be too many."""
        if self._waiting[user_id] >= MAX_WATCHERS:
            raise TooManyWatchersError

    @contextmanager
    def counted(self, user_id: UUID) -> Iterator[None]:
        """Count one request while it waits.

        Raises:
            TooManyWatchersError: the user has too many already.
        """
        self.check(user_id)
        self._waiting[user_id] += 1
        try:
            yield
        finally:
            self._waiting[user_id] -= 1
            if not self._waiting[user_id]:
                del self._waiting[user_id]
