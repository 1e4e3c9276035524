"""Detected events: what a pipeline sees in its input, told while it runs; standard library only.

The pipeline's process asks before it tells one, the worker before it believes it, the app before
it writes it down.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

MOST_EVENTS = 10_000
"""Of one attempt. Some more are only counted, and one last event says how many."""

MOST_AT_ONCE = 500
"""Events in one heartbeat."""

LARGEST_DATA = 4096
"""Bytes of an event's data as JSON."""

DEEPEST_DATA = 8
"""Levels of arrays and objects in it."""

PLATFORM_NAMESPACES = frozenset({"artifact", "attempt", "job", "preview"})
"""What comes before the dot in events that the platform itself writes; no pipeline may."""

_TYPE = re.compile(r"([a-z][a-z_]{0,30})\.[a-z][a-z_]{0,30}")


def check_event_type(event_type: str) -> str:
    """The type of a detected event, such as `zone.enter`: two words with a dot between.

    Raises:
        ValueError: it is no such thing, or its first word is the platform's own.
    """
    match = _TYPE.fullmatch(event_type)
    if match is None:
        raise ValueError("must be two words of a-z and _ with a dot between, such as zone.enter")
    if match[1] in PLATFORM_NAMESPACES:
        raise ValueError(f"must not begin with {match[1]}., which is for the platform's own events")
    return event_type


def check_event_data(data: Mapping[str, Any]) -> dict[str, Any]:
    """The data of a detected event: a small JSON object that every database can store.

    Raises:
        ValueError: it is too large or too deep, or something in it cannot be kept.
    """
    checked = dict(data)
    _check_value(checked, DEEPEST_DATA)
    size = len(json.dumps(checked, ensure_ascii=False, separators=(",", ":")).encode())
    if size > LARGEST_DATA:
        raise ValueError(f"has {size} bytes as JSON; an event may have {LARGEST_DATA}")
    return checked


def _check_value(value: object, levels: int) -> None:
    if isinstance(value, dict | list | tuple):
        if not levels:
            raise ValueError(f"is nested deeper than {DEEPEST_DATA} levels")
        _check_items(value, levels - 1)
    elif isinstance(value, str):
        if "\x00" in value or any("\ud800" <= character <= "\udfff" for character in value):
            raise ValueError("has a character that cannot be stored")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"has the number {value}, which JSON does not know")
    elif not (value is None or isinstance(value, bool | int | float)):
        raise ValueError(f"has a {type(value).__name__}, which JSON does not know")


def _check_items(value: dict[Any, Any] | list[Any] | tuple[Any, ...], levels: int) -> None:
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise ValueError(f"has a key that is a {type(key).__name__}, not text")  # noqa: TRY004
            _check_value(key, levels)
        value = list(value.values())
    for item in value:
        _check_value(item, levels)
