"""Entity tags and `Prefer: wait`."""

import pytest

from app.web.conditional import MAX_WAIT_SECONDS, etag_of, matches, preferred_wait

TAG = '"abc"'


@pytest.mark.parametrize(
    ("if_none_match", "same"),
    [
        (None, False),
        ("", False),
        (TAG, True),
        ("*", True),
        ('W/"abc"', True),
        ('"x", "abc"', True),
        ('"x","abc","y"', True),
        ('  "abc"  ', True),
        ('"x", W/"abc"', True),
        ('"x"', False),
        ("abc", False),
        ('"abc', False),
        ('"abcd"', False),
        ('"ABC"', False),
        (",,,", False),
    ],
)
def test_if_none_match(if_none_match: str | None, *, same: bool) -> None:
    """A tag matches weakly, anywhere in a list, and whole or not at all."""
    assert matches(if_none_match, TAG) == same


def test_etag_is_quoted_and_of_the_body() -> None:
    """The entity tag is quoted, and differs as soon as the body does."""
    tag = etag_of(b"one")
    assert tag.startswith('"')
    assert tag.endswith('"')
    assert tag == etag_of(b"one")
    assert tag != etag_of(b"two")


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        (None, 0),
        ("", 0),
        ("wait=5", 5),
        ("wait=0", 0),
        ("Wait=5", 5),
        ('wait="5"', 5),
        ("wait = 5", 5),
        ("respond-async, wait=10", 10),
        ("respond-async;foo, wait=10, return=minimal", 10),
        ("wait=999", MAX_WAIT_SECONDS),
        ("wait=999999", MAX_WAIT_SECONDS),
        ("wait=99999999999999999", 0),
        ("wait=-5", 0),
        ("wait=five", 0),
        ("wait", 0),
        ("await=5", 0),
        ("x-wait=5", 0),
        ("wait=5s", 0),
        ("wait=1.5", 0),
    ],
)
def test_prefer(prefer: str | None, seconds: int) -> None:
    """The wait is read wherever it stands among preferences, within its limit, or not at all."""
    assert preferred_wait(prefer) == seconds
