"""What a confined decoder tells its pipeline: records of a JSON object and some bytes.

Each begins with the lengths of both (four bytes each, big endian). The decoder has read a hostile
file: what it says is checked like any input. Standard library only.
"""

import json
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_LENGTHS = struct.Struct("!II")
_LONGEST_HEAD = 1 << 16
_LONGEST_MOMENT = 1e6
"""Seconds: eleven days."""


class RecordError(Exception):
    """The decoder sent something that is no record."""


@dataclass(frozen=True)
class Record:
    """One thing that the decoder tells.

    `type` is one of: `source` (what the video is), `frame` (the next picture and its bytes),
    `restart` (forget all frames: they are made anew), `preview` (a small picture and its bytes),
    `done` (how it went), `error` (why it ended).
    """

    type: str
    facts: dict[str, Any]
    body: bytes = b""

    def number(self, name: str) -> float:
        """A fact that is a finite number.

        Raises:
            RecordError: it is none.
        """
        value = self.facts.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e15:  # noqa: PLR2004
            raise RecordError(f"{self.type} without a {name}")
        return value

    def moment(self, name: str) -> float:
        """A fact that is a time in a video, in seconds.

        Raises:
            RecordError: it is none, or further away than any video lasts.
        """
        value = self.number(name)
        if abs(value) > _LONGEST_MOMENT:
            raise RecordError(f"a {self.type} whose {name} is {value:.3g} s")
        return float(value)

    def text(self, name: str) -> str:
        """A fact that is a short text.

        Raises:
            RecordError: it is none.
        """
        value = self.facts.get(name)
        if not isinstance(value, str):
            raise RecordError(f"{self.type} without a {name}")
        return value[:1000]


def send(descriptor: int, record: Record) -> None:
    """Write a record to a pipe, however long that takes."""
    head = json.dumps({"type": record.type, **record.facts}).encode()
    for part in (_LENGTHS.pack(len(head), len(record.body)) + head, record.body):
        view = memoryview(part)
        while view:
            view = view[os.write(descriptor, view) :]


def receive(read: Callable[[int], bytes], largest_body: int) -> Record | None:
    """The next record, or None at the end.

    Args:
        read: gives exactly so many bytes, or fewer at the end.
        largest_body: the most bytes that a record may bring.

    Raises:
        RecordError: it is none.
    """
    lengths = read(_LENGTHS.size)
    if not lengths:
        return None
    if len(lengths) < _LENGTHS.size:
        raise RecordError("a record that is cut short")
    head_length, body_length = _LENGTHS.unpack(lengths)
    if head_length > _LONGEST_HEAD or body_length > largest_body:
        raise RecordError("a record that is too long")
    head, body = read(head_length), read(body_length)
    if len(head) < head_length or len(body) < body_length:
        raise RecordError("a record that is cut short")
    try:
        facts = json.loads(head, parse_constant=_refuse)
        kind = facts.pop("type")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise RecordError("a record that is no JSON object") from error
    if not isinstance(kind, str):
        raise RecordError("a record without a type")
    return Record(kind, facts, body)


def _refuse(constant: str) -> float:
    raise ValueError(constant)
