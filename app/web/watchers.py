"""How many requests of one user may be under way for long at the same time."""

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
    """Counts requests of this process that take long: event streams and `Prefer: wait`, uploads.

    Args:
        most: how many of one user may be under way.
        error: what the next one is answered with.
    """

    def __init__(
        self, most: int = MAX_WATCHERS, error: type[AppError] = TooManyWatchersError
    ) -> None:
        self._most = most
        self._error = error
        self._waiting: Counter[UUID] = Counter()

    def check(self, user_id: UUID) -> None:
        """Raise the error if one more would be too many."""
        if self._waiting[user_id] >= self._most:
            raise self._error

    @contextmanager
    def counted(self, user_id: UUID) -> Iterator[None]:
        """Count one request while it waits.

        Raises:
            AppError: the error, if the user has too many already.
        """
        self.check(user_id)
        self._waiting[user_id] += 1
        try:
            yield
        finally:
            self._waiting[user_id] -= 1
            if not self._waiting[user_id]:
                del self._waiting[user_id]
