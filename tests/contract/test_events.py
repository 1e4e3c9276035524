"""Detected events: what may be told, and what neither a pipeline nor a worker may say."""

import json
import math
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from contract.attempts import AttemptHeartbeat, DetectedEvent
from contract.events import (
    DEEPEST_DATA,
    LARGEST_DATA,
    MOST_AT_ONCE,
    MOST_EVENTS,
    PLATFORM_NAMESPACES,
    check_event_data,
    check_event_type,
)

_TEXT = st.text(st.characters(codec=None), max_size=5)
_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | _TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_TEXT, inner, max_size=2),
    max_leaves=5,
)


def _nested(levels: int) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for _ in range(levels - 1):
        data = {"a": data}
    return data


@pytest.mark.parametrize(
    "event_type", ["zone.enter", "track.start", "ocr.text", "my_plugin.saw_it", "a.b", "job_s.x"]
)
def test_types(event_type: str) -> None:
    """Two words with a dot between them, of any pipeline's own."""
    assert check_event_type(event_type) == event_type


@pytest.mark.parametrize(
    "event_type",
    [
        *("", ".", "zone", "zone.", ".enter", "zone.enter.now", "Zone.enter", "zone.Enter"),
        *("zone.enter\n", "zone enter", "zone.1", "_zone.enter", "zöne.enter", "zone.*"),
        *("a" * 32 + ".b", "a." + "b" * 32, "zone.\x00", "zone\nid: 1.a"),
        *(f"{namespace}.succeeded" for namespace in PLATFORM_NAMESPACES),
    ],
)
def test_bad_types(event_type: str) -> None:
    """No other form, and none that the platform's own events have."""
    with pytest.raises(ValueError, match=r"two words|platform's own"):
        check_event_type(event_type)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"a": math.nan}, "number nan"),
        ({"a": [{"b": -math.inf}]}, "number -inf"),
        ({"a": "x\x00"}, "cannot be stored"),
        ({"a\x00": 1}, "cannot be stored"),
        ({"a": "\ud800"}, "cannot be stored"),
        ({7: 1}, "key that is a int"),
        ({"a": {1, 2}}, "has a set"),
        ({"a": b"x"}, "has a bytes"),
        ({"a": object()}, "has a object"),
        (_nested(DEEPEST_DATA + 1), "deeper than 8"),
        (_nested(900), "deeper than 8"),
        ({"a": "x" * LARGEST_DATA}, "has 4104 bytes"),
        ({"a": "ü" * (LARGEST_DATA // 2)}, "has 4104 bytes"),
    ],
)
def test_bad_data(data: dict[str, Any], problem: str) -> None:
    """What a database could not keep, or is too much, is refused with the reason."""
    with pytest.raises(ValueError, match=problem):
        check_event_data(data)


def test_data_at_its_limits() -> None:
    """The largest and the deepest that are allowed are allowed; any mapping will do."""
    largest = {"a": "x" * (LARGEST_DATA - len('{"a":""}'))}
    assert check_event_data(largest) == largest
    assert check_event_data(_nested(DEEPEST_DATA)) == _nested(DEEPEST_DATA)
    assert check_event_data(MappingProxyType({"box": (1, 2)})) == {"box": (1, 2)}


@given(st.dictionaries(_TEXT, _JSON, max_size=3))
def test_whatever_is_let_through_can_be_kept(data: dict[str, Any]) -> None:
    """It is strict JSON in UTF-8, without NUL, and comes back as it was."""
    try:
        checked = check_event_data(data)
    except ValueError:
        return
    text = json.dumps(checked, allow_nan=False, ensure_ascii=False)
    assert "\x00" not in json.loads(text.encode())
    assert json.loads(text.encode()) == data


def _event(sequence: int) -> dict[str, Any]:
    return {"sequence": sequence, "type": "zone.enter", "data": {}}


@pytest.mark.parametrize(
    "events",
    [
        [_event(0)],
        [_event(-1)],
        [_event(MOST_EVENTS + 2)],
        [_event(2), _event(1)],
        [_event(1), _event(1)],
        [_event(number) for number in range(1, MOST_AT_ONCE + 2)],
        [{"type": "zone.enter", "data": {}}],
        [{"sequence": 1, "data": {}}],
        [{"sequence": 1, "type": "zone.enter"}],
        [{"sequence": 1, "type": "zone.enter", "data": []}],
        None,
    ],
)
def test_impossible_lists(events: Any) -> None:
    """A list is in order, each event in it once, and not too long."""
    with pytest.raises(ValidationError):
        AttemptHeartbeat(events=events)


def test_the_longest_list() -> None:
    """As many as are allowed, up to the last number there is; gaps do no harm."""
    first = MOST_EVENTS + 2 - MOST_AT_ONCE
    events = [_event(number) for number in range(first, MOST_EVENTS + 2)]
    heartbeat = AttemptHeartbeat.model_validate({"events": events})
    assert heartbeat.events[-1] == DetectedEvent(**_event(MOST_EVENTS + 1))
