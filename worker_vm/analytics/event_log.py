"""Events on their way out: counted, and told while the video is still being analysed."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from worker_vm.analytics.events import Event, EventType


class EventLog:
    """Counts all events and tells the first of each type.

    One type that babbles, such as the tracks of a crowd, leaves the others their room.

    Args:
        tell: takes a type and its data.
        most: of each type that are told.
        is_mock: whether events mean nothing, which each then says.
    """

    def __init__(
        self, tell: Callable[[str, Mapping[str, Any]], None], most: int, *, is_mock: bool
    ) -> None:
        self._tell = tell
        self._most = most
        self._is_mock = is_mock
        self.counts: Counter[EventType] = Counter()

    def add(self, events: Iterable[Event]) -> None:
        """Count events, and tell them if there is room."""
        for event in events:
            self.counts[event.type] += 1
            if self.counts[event.type] > self._most:
                continue
            data = {"time_s": round(event.time_s, 4), "frame": event.frame, **event.data}
            if self._is_mock:
                data["mock"] = True
            self._tell(event.type.value, data)

    def summary(self) -> dict[str, Any]:
        """How many there were, and of which types not all have been told."""
        return {
            "counts": {kind.value: self.counts[kind] for kind in EventType},
            "told": {kind.value: min(self.counts[kind], self._most) for kind in EventType},
            "is_cut": any(count > self._most for count in self.counts.values()),
        }
