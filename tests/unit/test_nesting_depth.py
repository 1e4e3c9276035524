"""How deep JSON is nested, told without parsing it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.web.middleware import nesting_depth

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='[]{}"\\ab\u00e9 '),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=20,
)


def _real_depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_real_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_real_depth, value), default=0)
    return 0


@pytest.mark.parametrize(
    ("text", "depth"),
    [
        (b"", 0),
        (b"1", 0),
        (b"[]", 1),
        (b"[[]]", 2),
        (b"[[],[]]", 2),
        (b'{"a":[{}]}', 3),
        (b'["[[["]', 1),
        (b'["\\"[[["]', 1),
        (b'["\\\\",[["]"]]]', 3),
        (b"[" * 1000, 1000),
        (b'["' + b"[" * 1000, 1),
        (b'"\\', 0),
        (b"]]][[", 0),
    ],
)
def test_examples(text: bytes, depth: int) -> None:
    """Brackets count outside strings, whatever is escaped in them."""
    assert nesting_depth(text) == depth


@given(_JSON, st.booleans())
def test_equals_the_parsed_depth(value: Any, ascii_only: bool) -> None:  # noqa: FBT001
    """For every JSON text it is the depth of what the text says."""
    assert nesting_depth(json.dumps(value, ensure_ascii=ascii_only).encode()) == _real_depth(value)


@given(_JSON, st.integers(0, 3))
def test_cut_off_text_is_bounded(value: Any, cut: int) -> None:
    """Text that is cut off is never deeper than the whole."""
    text = json.dumps(value).encode()
    assert nesting_depth(text[: len(text) - cut]) <= _real_depth(value)


def test_unclosed_string_full_of_quotes() -> None:
    """A string of escaped quotes that never ends is read once: this test would take an hour."""
    assert nesting_depth(b'"' + b'\\"' * 500_000) == 0
