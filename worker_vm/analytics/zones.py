"""Zones of the picture, as a person draws them: read, checked and asked who stands in them."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

MAX_ZONES = 64
MAX_POINTS = 256
MAX_NAME = 64
_MIN_POINTS = 3
_MAX_TEXT = 1 << 20
_RECTANGLE = ("x1", "y1", "x2", "y2")


class ZoneError(ValueError):
    """A zone cannot be used; the message names it and says why."""

    code = "INVALID_ZONE"


@dataclass(frozen=True)
class Zone:
    """A named part of the picture."""

    name: str
    points: tuple[tuple[float, float], ...]
    """Its corners in pixels, in order; the last one is joined to the first."""
    _polygon: shapely.Polygon = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        polygon = shapely.Polygon(self.points)
        shapely.prepare(polygon)
        object.__setattr__(self, "_polygon", polygon)

    def holds(self, points: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """Return which of the points [n, 2] lie in the zone or on its border."""
        inside: NDArray[np.bool_] = shapely.intersects_xy(self._polygon, points[:, 0], points[:, 1])
        return inside


def read_zones(value: object, width: int, height: int) -> list[Zone]:
    """Read zones that came from outside.

    Args:
        value: an array of zones, or its JSON text. A zone is `{name, x1, y1, x2, y2}`, a rectangle,
            or `{name, points: [[x, y], …]}`, a polygon. If none of a zone's coordinates is greater
            than 1, they are shares of the picture's width and height, otherwise pixels.
        width: of the picture, in pixels.
        height: of the picture, in pixels.

    Returns:
        The zones, in the given order, in pixels.

    Raises:
        ZoneError: the value is no such array, or one of the zones cannot be used.
    """
    entries = _entries(value)
    zones: dict[str, Zone] = {}
    for number, entry in enumerate(entries, 1):
        zone = _read_zone(entry, number, width, height)
        if zone.name in zones:
            raise ZoneError(f"Two zones are called {zone.name!r}: give each a name of its own.")
        zones[zone.name] = zone
    return list(zones.values())


def _entries(value: object) -> Sequence[object]:
    if isinstance(value, str):
        value = _parsed(value)
    if not isinstance(value, list | tuple):
        raise ZoneError(
            'Zones must be an array such as [{"name": "door", "x1": 0, "y1": 0, "x2": 99, '
            '"y2": 99}], or the JSON text of one.'
        )
    if len(value) > MAX_ZONES:
        raise ZoneError(f"There are {len(value)} zones; at most {MAX_ZONES} are possible.")
    return value


def _parsed(text: str) -> object:
    if len(text) > _MAX_TEXT:
        raise ZoneError(f"The zones' JSON text is longer than {_MAX_TEXT} characters.")
    try:
        return json.loads(text) if text.strip() else []
    except ValueError as error:
        raise ZoneError(f"The zones are not valid JSON: {error}.") from None
    except RecursionError:
        raise ZoneError("The zones are not valid JSON: nested too deeply.") from None


def _read_zone(entry: object, number: int, width: int, height: int) -> Zone:
    name = _name(entry, number)
    assert isinstance(entry, Mapping)
    unknown = sorted(str(key) for key in entry.keys() - {"name", "points", *_RECTANGLE})
    if unknown:
        raise ZoneError(f"Zone {name!r} has an unknown entry {unknown[0][:MAX_NAME]!r}.")
    if "points" in entry and entry.keys() & set(_RECTANGLE):
        raise ZoneError(f"Zone {name!r} has both points and x1, y1, x2, y2: give one of them.")
    corners = _polygon(entry["points"], name) if "points" in entry else _rectangle(entry, name)
    if max(max(corner) for corner in corners) <= 1:
        corners = [(x * width, y * height) for x, y in corners]
    _check_shape(corners, name, width, height)
    return Zone(name, tuple(corners))


def _name(entry: object, number: int) -> str:
    if not isinstance(entry, Mapping):
        raise ZoneError(f"Zone {number} is not an object with a name and coordinates.")
    name = entry.get("name")
    if not isinstance(name, str) or not name.strip():
        raise ZoneError(f"Zone {number} has no name: give it a text that is not empty.")
    name = name.strip()
    if len(name) > MAX_NAME or not name.isprintable():
        raise ZoneError(
            f"Zone {number}: a name is at most {MAX_NAME} characters, all of them printable."
        )
    return name


def _rectangle(entry: Mapping[Any, Any], name: str) -> list[tuple[float, float]]:
    missing = [key for key in _RECTANGLE if key not in entry]
    if missing:
        raise ZoneError(f"Zone {name!r} lacks {', '.join(missing)} (or points, for a polygon).")
    left, top, right, bottom = (_coordinate(entry[key], name, key) for key in _RECTANGLE)
    if left >= right or top >= bottom:
        raise ZoneError(f"Zone {name!r} is empty: x1 must be less than x2, and y1 less than y2.")
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def _polygon(points: object, name: str) -> list[tuple[float, float]]:
    if not isinstance(points, list | tuple) or not _MIN_POINTS <= len(points) <= MAX_POINTS:
        raise ZoneError(
            f"Zone {name!r}: points must be an array of {_MIN_POINTS} to {MAX_POINTS} [x, y]."
        )
    corners = []
    for number, point in enumerate(points, 1):
        if not isinstance(point, list | tuple) or len(point) != 2:  # noqa: PLR2004  (x and y)
            raise ZoneError(f"Zone {name!r}: point {number} is not [x, y].")
        x, y = (_coordinate(part, name, f"point {number}") for part in point)
        corners.append((x, y))
    return corners


def _coordinate(value: object, name: str, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ZoneError(f"Zone {name!r}: {what} is not a number.")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ZoneError(f"Zone {name!r}: {what} is not a finite number.")
    return number


def _check_shape(
    corners: Sequence[tuple[float, float]], name: str, width: int, height: int
) -> None:
    for x, y in corners:
        if not (0 <= x <= width and 0 <= y <= height):
            raise ZoneError(
                f"Zone {name!r} reaches outside of the picture at ({x:g}, {y:g}); the picture has "
                f"{width} x {height} pixels."
            )
    polygon = shapely.Polygon(corners)
    if polygon.convex_hull.area < 1:
        raise ZoneError(f"Zone {name!r} is empty: it covers less than one pixel.")
    if not polygon.is_valid:
        reason = shapely.is_valid_reason(polygon)
        raise ZoneError(
            f"Zone {name!r} crosses or touches itself ({reason}): give its corners in order."
        )
