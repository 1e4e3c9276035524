"""Detected events on their way to the app: numbered here, kept until a heartbeat was answered."""

import threading
from collections import deque
from collections.abc import Iterable
from typing import Any

from contract.attempts import DetectedEvent
from contract.events import MOST_AT_ONCE, MOST_EVENTS

DROPPED = "events.dropped"
RESTARTED = "events.restarted"
_BATCH_BYTES = 128 * 1024
_ROOM = MOST_EVENTS - 1
"""For what is seen: one place is kept for RESTARTED, and one above MOST_EVENTS for DROPPED."""


class EventOutbox:
    """One attempt's events. Safe in several threads: two may even send the same ones.

    Args:
        kept: those that an earlier process could not bring to the app.
    """

    def __init__(self, kept: Iterable[DetectedEvent] = ()) -> None:
        self._waiting = deque((event, _size(event)) for event in kept)
        self._count = 0
        self._dropped = 0
        self._annulled = 0
        self._lock = threading.Lock()

    def add(self, event_type: str, data: dict[str, Any]) -> None:
        """Take an event; beyond the limit of an attempt it is only counted.

        Raises:
            ValueError: the type or the data is not allowed.
        """
        with self._lock:
            event = DetectedEvent(sequence=min(self._count, _ROOM) + 1, type=event_type, data=data)
            if self._count < _ROOM:
                self._append(event)
            else:
                self._dropped += 1

    def begin_again(self) -> None:
        """The run starts over: whoever has read events is told that they do not count.

        If there were none since this was last told, it still holds: so one place is always enough.
        """
        with self._lock:
            if self._count > self._annulled:
                data = {"events_before": self._count}
                self._append(DetectedEvent(sequence=self._count + 1, type=RESTARTED, data=data))
                self._annulled = self._count

    def close(self) -> None:
        """The run has ended: say how many events there was no room for, if any."""
        with self._lock:
            if self._dropped:
                data = {"dropped": self._dropped, "limit": _ROOM}
                self._append(DetectedEvent(sequence=self._count + 1, type=DROPPED, data=data))
                self._dropped = 0

    @property
    def unsent(self) -> list[DetectedEvent]:
        """What the app has not got yet, as far as is known."""
        with self._lock:
            return [event for event, _ in self._waiting]

    def next_batch(self) -> list[DetectedEvent]:
        """The oldest of them, as many as fit into one heartbeat; empty if there are none."""
        batch: list[DetectedEvent] = []
        size = 0
        with self._lock:
            for event, length in self._waiting:
                size += length
                if len(batch) >= MOST_AT_ONCE or (batch and size > _BATCH_BYTES):
                    break
                batch.append(event)
        return batch

    def done_with(self, batch: list[DetectedEvent]) -> None:
        """Forget a batch: the app has it, or will never take it."""
        with self._lock:
            while batch and self._waiting and self._waiting[0][0].sequence <= batch[-1].sequence:
                self._waiting.popleft()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def _append(self, event: DetectedEvent) -> None:
        self._count += 1
        self._waiting.append((event, _size(event)))


def _size(event: DetectedEvent) -> int:
    """Bytes on the wire."""
    return len(event.model_dump_json().encode())
