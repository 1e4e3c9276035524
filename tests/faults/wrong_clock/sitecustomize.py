"""Python imports this by itself at its start: a clock that is off by WRONG_CLOCK_SECONDS."""

import datetime as dt
import os
import time

OFF_BY = float(os.environ["WRONG_CLOCK_SECONDS"])
_time, _time_ns = time.time, time.time_ns


class WrongDatetime(dt.datetime):
    """A datetime that asks the wrong clock for now."""

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:
        """See `datetime.datetime.now`."""
        return dt.datetime.fromtimestamp(time.time(), tz)

    @classmethod
    def utcnow(cls) -> dt.datetime:
        """See `datetime.datetime.utcnow`."""
        return cls.now(dt.UTC).replace(tzinfo=None)


time.time = lambda: _time() + OFF_BY
time.time_ns = lambda: _time_ns() + int(OFF_BY * 1e9)
dt.datetime = WrongDatetime  # type: ignore[misc]
