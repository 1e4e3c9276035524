"""Reads that those who ask at the same time share, so that many cost little more than one."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

_KEPT = 10_000
_KEYS = 256


class SharedReads(Generic[Key, Value]):
    """Reads values by their keys, those that are asked for together in one statement.

    Whoever asks while statements are under way shares one of the next, so that each value is read
    after it was asked for; with nothing under way there is no wait.

    Args:
        fetch: reads the values of some keys; leaves out those that there are not.
        statements: how many may be under way.
        keys: how many one statement may read; the others wait for the next one.
        seconds: how long a value is good for; 0 for values that are read each time.
    """

    def __init__(
        self,
        fetch: Callable[[Sequence[Key]], Awaitable[Mapping[Key, Value]]],
        *,
        statements: int = 1,
        keys: int = _KEYS,
        seconds: float = 0,
    ) -> None:
        self._fetch = fetch
        self._statements = statements
        self._keys = keys
        self._seconds = seconds
        self._kept: dict[Key, tuple[float, Value | None]] = {}
        self._wanted: dict[Key, asyncio.Future[Value | None]] = {}
        self._reading = 0
        self._tasks: set[asyncio.Task[None]] = set()  # the loop itself does not hold on to them

    def forget_all(self) -> None:
        """Read everything again."""
        self._kept.clear()

    async def get(self, key: Key) -> Value | None:
        """The value of a key, None if there is none; whatever `fetch` raises."""
        kept = self._kept.get(key)
        if kept and kept[0] > time.monotonic():
            return kept[1]
        future = self._wanted.get(key)
        if future is None:
            future = self._wanted[key] = asyncio.get_running_loop().create_future()
            if self._reading < self._statements:
                self._reading += 1
                task = asyncio.create_task(self._read_all())
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        # Shared: one who gives up must not take the value from the others.
        return await asyncio.shield(future)

    async def _read_all(self) -> None:
        while self._wanted:
            first = list(itertools.islice(self._wanted, self._keys))
            wanted = {key: self._wanted.pop(key) for key in first}
            try:
                found = await self._fetch(list(wanted))
            except Exception as error:  # noqa: BLE001  (those who asked decide what to do)
                for future in wanted.values():
                    future.set_exception(error)
                    future.exception()  # perhaps nobody waits any more
                continue
            if self._seconds:
                self._keep({key: found.get(key) for key in wanted})
            for key, future in wanted.items():
                future.set_result(found.get(key))
        # In the same step as the last look, or what is asked for in between would wait for ever.
        self._reading -= 1

    def _keep(self, values: Mapping[Key, Value | None]) -> None:
        if len(self._kept) + len(values) > _KEPT:
            self.forget_all()
        until = time.monotonic() + self._seconds
        self._kept.update((key, (until, value)) for key, value in values.items())
