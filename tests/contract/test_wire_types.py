"""The types that messages are made of."""

import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from contract.artifacts import MediaType
from contract.attempts import (
    AttemptCancelled,
    AttemptFailed,
    AttemptReleased,
    AttemptSucceeded,
    FailureCode,
    FinishRequest,
    Progress,
    WorkerName,
)
from contract.base import ErrorCode, FileName, Sha256, Text, UtcDatetime
from contract.workers import QueueName

_TIME = TypeAdapter(UtcDatetime)
_FINISH: TypeAdapter[Any] = TypeAdapter(FinishRequest)
_ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(
    st.datetimes(
        min_value=datetime(1, 1, 2),  # noqa: DTZ001  (the strategy adds the zone)
        max_value=datetime(9999, 12, 30),  # noqa: DTZ001
        timezones=_ZONES,
    )
)
@settings(deadline=None)
def test_times_are_written_in_utc(moment: datetime) -> None:
    """A time of any zone is written in UTC with a Z, and means the same when read again."""
    text = _TIME.dump_json(_TIME.validate_python(moment))
    assert text.endswith(b'Z"')
    assert _TIME.validate_json(text) == moment


def test_moment_of_another_zone() -> None:
    """Noon in Tokyo is three in the morning in UTC."""
    noon = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=9)))
    assert _TIME.dump_json(noon) == b'"2026-01-01T03:00:00.000000Z"'
    assert _TIME.validate_python(noon).tzinfo == UTC


@pytest.mark.parametrize(
    "text", ["2026-01-01T00:00:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "now"]
)
def test_impossible_times(text: str) -> None:
    """A time without a zone, or that leaves the calendar in UTC, is refused."""
    with pytest.raises(ValidationError):
        _TIME.validate_python(text)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"outcome": "succeeded", "artifact_ids": []}, AttemptSucceeded),
        (
            {"outcome": "failed", "code": "OOPS", "message": "", "permanent": True},
            AttemptFailed,
        ),
        ({"outcome": "cancelled"}, AttemptCancelled),
        ({"outcome": "released", "reason": "stopping"}, AttemptReleased),
    ],
)
def test_outcome_selects_the_report(body: dict[str, Any], kind: type) -> None:
    """The outcome alone says which report it is."""
    assert type(_FINISH.validate_python(body)) is kind


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"outcome": "exploded"},
        {"outcome": None},
        {"outcome": "succeeded"},
        {"outcome": "failed"},
        {"outcome": "released"},
        {"artifact_ids": []},
        {"outcome": "failed", "code": "oops", "message": "", "permanent": True},
        {"outcome": "failed", "code": "OOPS", "message": "x" * 2001, "permanent": True},
        {"outcome": "succeeded", "artifact_ids": ["x"]},
        {"outcome": "succeeded", "artifact_ids": [], "metrics": {"a": math.nan}},
        {"outcome": "succeeded", "artifact_ids": [], "metrics": {"a": math.inf}},
        {"outcome": "succeeded", "artifact_ids": [], "metrics": {"a\x00": 1}},
    ],
)
def test_impossible_reports(body: dict[str, Any]) -> None:
    """A report without an outcome, with an unknown one or without what it needs is refused."""
    with pytest.raises(ValidationError):
        _FINISH.validate_python(body)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (FileName, "model.glb"),
        (FileName, "a" * 100),
        (Sha256, "0" * 64),
        (ErrorCode, "CUTOUT_UNRELIABLE"),
        (WorkerName, "gpu-01.4711"),
        (QueueName, "gpu_a-1"),
        (MediaType, "model/gltf-binary"),
        (MediaType, "application/vnd.apache.parquet"),
        (Text, "Ünïcode ☕ 🫖"),
        *((ErrorCode, code.value) for code in FailureCode),
    ],
)
def test_good_names(kind: Any, value: str) -> None:
    """Names of the agreed form are taken as they are."""
    assert TypeAdapter(kind).validate_python(value) == value


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        *((FileName, name) for name in ("", ".", "..", "../x", "a/b", "a\\b", ".hidden", "-rf")),
        *(
            (FileName, name)
            for name in ("a b", "é.png", "a\n", "a\x00", "a" * 101, "CON:", "a\r\n")
        ),
        *((Sha256, digest) for digest in ("", "0" * 63, "0" * 65, "G" * 64, "A" * 64)),
        *((ErrorCode, code) for code in ("", "lower", "1A", "A B", "A" * 65, "A\n")),
        *((WorkerName, name) for name in ("", "a b", "-a", "a/b", "a" * 129)),
        *((QueueName, name) for name in ("", "GPU", "a b", "a" * 33, "rq:queue:a")),
        *((MediaType, kind) for kind in ("", "text", "text/", "text/html; charset=x", "TEXT/HTML")),
        *((Text, text) for text in ("a\x00", "\ud800", "\udfff")),
    ],
)
def test_bad_names(kind: Any, value: str) -> None:
    """Whatever could escape a folder, a key or a header is refused."""
    with pytest.raises(ValidationError):
        TypeAdapter(kind).validate_python(value)


@pytest.mark.parametrize("percent", [-0.1, 100.1, math.nan, math.inf, -math.inf, 1e308, "x", None])
def test_impossible_progress(percent: Any) -> None:
    """Progress lies between 0 and 100."""
    with pytest.raises(ValidationError):
        Progress(percent=percent, stage="x")


@pytest.mark.parametrize("percent", [0, 0.5, 100])
def test_possible_progress(percent: float) -> None:
    """Both ends of progress are possible."""
    assert Progress(percent=percent, stage="x").percent == percent
