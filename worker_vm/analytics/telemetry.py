"""Every track in every frame, as lines of JSON, as CSV and as Parquet."""

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from worker_vm.analytics.events import Event

MEDIA_TYPES = {
    "jsonl": "application/x-ndjson",
    "csv": "text/csv",
    "parquet": "application/vnd.apache.parquet",
}
_COLUMNS = (
    "frame",
    "time_s",
    "track_id",
    "class",
    "confidence",
    "x1",
    "y1",
    "x2",
    "y2",
    "is_seen",
    "cluster",
    "mock",
)
_ROWS_A_GROUP = 20_000


@dataclass(frozen=True)
class Row:
    """A track in a frame; its box in pixels of the video, upright."""

    track_id: int
    class_name: str
    confidence: float
    box: tuple[float, float, float, float]
    is_seen: bool
    cluster: int | None


@dataclass(frozen=True)
class Moment:
    """All that there is to say of a frame."""

    frame: int
    time_s: float
    rows: Sequence[Row]
    events: Sequence[Event]


class Writer(Protocol):
    """Writes one file of telemetry."""

    def write(self, moment: Moment) -> None:
        """Add a frame."""

    def close(self) -> None:
        """Finish the file; nothing happens if it is finished."""


class JsonLines:
    """A line for each frame: its tracks and its events.

    Args:
        path: where to.
        is_mock: whether it means nothing, which each line then says.
    """

    def __init__(self, path: Path, *, is_mock: bool) -> None:
        self._file = path.open("w", encoding="utf-8")
        self._is_mock = is_mock

    def write(self, moment: Moment) -> None:
        """Add a line."""
        line: dict[str, Any] = {
            "frame": moment.frame,
            "time_s": moment.time_s,
            "tracks": [
                {
                    "id": row.track_id,
                    "class": row.class_name,
                    "confidence": row.confidence,
                    "box": row.box,
                    "is_seen": row.is_seen,
                    "cluster": row.cluster,
                }
                for row in moment.rows
            ],
            "events": [
                {"type": e.type.value, "time_s": round(e.time_s, 4), "frame": e.frame, **e.data}
                for e in moment.events
            ],
        }
        if self._is_mock:
            line["mock"] = True
        self._file.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")

    def close(self) -> None:
        """Finish the file."""
        self._file.close()


class CommaSeparated:
    """A row for each track in each frame (RFC 4180).

    Args:
        path: where to.
        is_mock: whether it means nothing, which each row then says.
    """

    def __init__(self, path: Path, *, is_mock: bool) -> None:
        self._file = path.open("w", encoding="utf-8", newline="")
        self._rows = csv.writer(self._file)
        self._rows.writerow(_COLUMNS)
        self._is_mock = is_mock

    def write(self, moment: Moment) -> None:
        """Add rows."""
        for values in _values(moment, is_mock=self._is_mock):
            self._rows.writerow([_plain(value) for value in values])

    def close(self) -> None:
        """Finish the file."""
        self._file.close()


class Parquet:
    """The same rows, for `pyarrow`, which must be installed.

    Args:
        path: where to.
        is_mock: whether it means nothing, which each row then says.
    """

    def __init__(self, path: Path, *, is_mock: bool) -> None:
        import pyarrow as pa  # noqa: PLC0415  (not on every machine, and slow to import)
        from pyarrow import parquet  # noqa: PLC0415

        kinds = [pa.int64(), pa.float64(), pa.int64(), pa.string()]
        kinds += [pa.float32()] * 5 + [pa.bool_(), pa.int32(), pa.bool_()]
        self._schema = pa.schema(list(zip(_COLUMNS, kinds, strict=True)))
        self._make = pa.Table.from_pydict
        self._file = parquet.ParquetWriter(path, self._schema, compression="zstd")
        self._rows: list[tuple[Any, ...]] = []
        self._is_mock = is_mock

    def write(self, moment: Moment) -> None:
        """Add rows."""
        self._rows.extend(_values(moment, is_mock=self._is_mock))
        if len(self._rows) >= _ROWS_A_GROUP:
            self._flush()

    def close(self) -> None:
        """Finish the file."""
        if self._file.is_open:
            self._flush()
            self._file.close()

    def _flush(self) -> None:
        columns = list(zip(*self._rows, strict=True)) or [()] * len(_COLUMNS)
        table = self._make(
            {name: list(column) for name, column in zip(_COLUMNS, columns, strict=True)},
            schema=self._schema,
        )
        self._file.write_table(table)
        self._rows.clear()


_WRITERS: dict[str, type[JsonLines] | type[CommaSeparated] | type[Parquet]] = {
    "jsonl": JsonLines,
    "csv": CommaSeparated,
    "parquet": Parquet,
}


def missing_package(formats: Iterable[str]) -> str | None:
    """The package that one of the formats needs and this machine has not got."""
    return "pyarrow" if "parquet" in formats and find_spec("pyarrow") is None else None


def open_writer(kind: str, path: Path, *, is_mock: bool) -> Writer:
    """A writer for jsonl, csv or parquet."""
    return _WRITERS[kind](path, is_mock=is_mock)


def _values(moment: Moment, *, is_mock: bool) -> list[tuple[Any, ...]]:
    return [
        (
            moment.frame,
            moment.time_s,
            row.track_id,
            row.class_name,
            row.confidence,
            *row.box,
            row.is_seen,
            row.cluster,
            is_mock,
        )
        for row in moment.rows
    ]


def _plain(value: Any) -> Any:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else value
