"""The sliding window counter, as far as it is arithmetic."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.limits.window import Window

NOW = 1000.0


def _window(previous: int, current: int, left: float) -> Window:
    return Window(60, NOW + left, previous, current)


@pytest.mark.parametrize(
    ("previous", "current", "left", "used"),
    [(0, 0, 60, 0), (0, 7, 1, 7), (60, 0, 30, 30), (60, 5, 59.5, 64), (1, 0, 59, 0)],
)
def test_used(previous: int, current: int, left: float, used: int) -> None:
    """Of the window before, the share counts that is not over yet."""
    assert _window(previous, current, left).used(NOW) == used


def test_time_passes() -> None:
    """A window becomes the previous one, passes by in part, and is gone after another."""
    window = _window(0, 60, 10)
    assert [window.used(NOW + s) for s in (0, 9, 10, 40, 55, 69, 70, 500)] == [
        *(60, 60, 60, 30, 15, 1, 0),
        0,
    ]
    window.add(NOW + 500)
    assert window.used(NOW + 500) == 1


@given(
    previous=st.integers(0, 50),
    current=st.integers(0, 50),
    left=st.floats(0.01, 60),
    quota=st.integers(1, 50),
)
def test_free_when_it_says(previous: int, current: int, left: float, quota: int) -> None:
    """One more fits after as many seconds as `free_in` says, and did not two seconds before."""
    window = _window(previous, current, left)
    if window.used(NOW) < quota:
        return
    wait = window.free_in(quota, NOW)
    assert wait >= 1
    assert _window(previous, current, left).used(NOW + wait + 1e-6) < quota
    if wait > 2:
        assert _window(previous, current, left).used(NOW + wait - 2) >= quota
