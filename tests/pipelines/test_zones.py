"""Zones are read with suspicion, and tell who comes, stays and goes."""

import json
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from worker_vm.analytics.boxes import Track
from worker_vm.analytics.events import Event, EventType
from worker_vm.analytics.zone_watch import ZoneWatch
from worker_vm.analytics.zones import MAX_POINTS, MAX_ZONES, Zone, ZoneError, read_zones

SQUARE = {"name": "door", "x1": 100, "y1": 0, "x2": 200, "y2": 100}
RATE = 25.0


def test_rectangle_and_polygon_in_pixels() -> None:
    """Both ways to write a zone mean the same corners."""
    polygon = {"name": "door", "points": [[100, 0], [200, 0], [200, 100], [100, 100]]}
    assert read_zones([SQUARE], 640, 360) == read_zones([polygon], 640, 360)


def test_shares_of_the_picture() -> None:
    """Coordinates of at most 1 are shares of the picture's sides."""
    (zone,) = read_zones([{"name": "left", "x1": 0, "y1": 0.5, "x2": 0.5, "y2": 1}], 640, 360)
    assert zone.points == ((0, 180), (320, 180), (320, 360), (0, 360))


@pytest.mark.parametrize("value", [[], "", " ", "[]"])
def test_no_zones(value: object) -> None:
    """No zones are fine."""
    assert read_zones(value, 640, 360) == []


def test_json_text() -> None:
    """An array and its JSON text are read alike."""
    assert read_zones(json.dumps([SQUARE]), 640, 360) == read_zones([SQUARE], 640, 360)


def square(**changes: Any) -> list[dict[str, Any]]:
    return [{**SQUARE, **changes}]


def shape(*points: Any, name: str = "yard") -> list[dict[str, Any]]:
    return [{"name": name, "points": list(points)}]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("[{", "not valid JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('[{"name": "door", "x1": NaN, "y1": 0, "x2": 9, "y2": 9}]', "'door': x1 is not a finite"),
        ("[" + "1" * 5000 + "]", "not valid JSON"),
        (" " * (1 << 21), "longer than"),
        (None, "must be an array"),
        ({"name": "door"}, "must be an array"),
        (7, "must be an array"),
        (["door"], "Zone 1 is not an object"),
        ([SQUARE, SQUARE], "Two zones are called 'door'"),
        ([SQUARE, {**SQUARE, "name": " door "}], "Two zones are called 'door'"),
        ([{**SQUARE, "name": str(n)} for n in range(MAX_ZONES + 1)], f"at most {MAX_ZONES}"),
        (square(name=""), "Zone 1 has no name"),
        (square(name=5), "Zone 1 has no name"),
        (square(name="x" * 65), "at most 64 characters"),
        (square(name="a\nb"), "printable"),
        (square(name="\ud800"), "printable"),
        (square(colour="red"), "unknown entry 'colour'"),
        (square(points=[[0, 0]]), "both points and"),
        ([{"name": "door", "x1": 1}], "lacks y1, x2, y2"),
        (square(x1="1"), "x1 is not a number"),
        (square(x1=True), "x1 is not a number"),
        (square(x1=None), "x1 is not a number"),
        (square(x1=math.inf), "x1 is not a finite number"),
        (square(x1=10**400), "x1 is not a finite number"),
        (square(x1=200), "'door' is empty"),
        (square(x1=300), "'door' is empty"),
        (square(x2=641), "outside of the picture"),
        (square(y1=-1), "outside of the picture"),
        (square(x1=0, y1=0, x2=0.001, y2=0.001), "less than one pixel"),
        (shape([0, 0], [9, 9]), "3 to 256"),
        (shape(*[[0, n] for n in range(MAX_POINTS + 1)]), "3 to 256"),
        ([{"name": "yard", "points": "abc"}], "3 to 256"),
        (shape([0, 0], [9], [9, 9]), "point 2 is not [x, y]"),
        (shape([0, 0], 9, [9, 9]), "point 2 is not [x, y]"),
        (shape([0, 0], [math.nan, 0], [9, 9]), "point 2 is not a finite number"),
        (shape([0, 0], [90, 90], [90, 0], [0, 90]), "crosses or touches itself"),
        (shape([0, 0], [50, 50], [90, 90]), "less than one pixel"),
    ],
)  # fmt: skip
def test_refused(value: object, says: str) -> None:
    """Whatever cannot be a zone is refused with a sentence that says why."""
    with pytest.raises(ZoneError) as refused:
        read_zones(value, 640, 360)
    assert says in str(refused.value)
    assert refused.value.code == "INVALID_ZONE"


def test_border_belongs_to_the_zone() -> None:
    """Points on the border lie in the zone; outside of a dent they do not."""
    (zone,) = read_zones(shape([0, 0], [100, 0], [100, 100], [50, 50], [0, 100]), 640, 360)
    points = np.array([[100, 50], [50, 50], [50, 60], [99, 90], [101, 50]], float)
    assert zone.holds(points).tolist() == [True, True, False, True, False]


def door() -> Zone:
    return read_zones([SQUARE], 640, 360)[0]


def at(x: float, number: int = 1, *, is_seen: bool = True, y: float = 50) -> Track:
    return Track(number, (x - 10, y - 40, x + 10, y), 0, 0.9, is_seen)


def watched(watch: ZoneWatch, frames: Iterable[list[Track]]) -> list[tuple[EventType, int]]:
    events: list[Event] = []
    for frame, tracks in enumerate(frames):
        events += watch.update(tracks, frame / RATE, frame)
    events += watch.finish()
    assert all(event.time_s == pytest.approx(event.frame / RATE) for event in events)
    return [(event.type, event.frame) for event in events]


def test_passing_through() -> None:
    """Who walks through enters and leaves at the moments of the crossings, once each."""
    watch = ZoneWatch([door()])
    events = watched(watch, ([at(5.0 * n)] for n in range(60)))
    assert events == [(EventType.ZONE_ENTER, 20), (EventType.ZONE_EXIT, 41)]
    figures = watch.figures["door"]
    assert (figures.entries, figures.exits, figures.occupancy, figures.peak_occupancy) == (
        1,
        1,
        0,
        1,
    )
    assert figures.dwell_s == [pytest.approx(21 / RATE)]


def test_trembling_on_the_border() -> None:
    """A box that trembles on a border makes no events."""
    assert watched(ZoneWatch([door()]), ([at(100.0 + n % 2 - 0.5)] for n in range(60))) == []


def test_brief_pause_within_a_visit() -> None:
    """A visit goes on over a detection or two beside the zone."""
    places = [150.0] * 20 + [250.0] * 3 + [150.0] * 20
    events = watched(ZoneWatch([door()]), ([at(x)] for x in places))
    assert events == [(EventType.ZONE_ENTER, 0), (EventType.ZONE_EXIT, 42)]


def test_lost_within_a_visit() -> None:
    """A track that is lost stays where it was, wherever it is thought to be meanwhile."""
    seen, lost = [at(150)], [at(400, is_seen=False)]
    events = watched(ZoneWatch([door()]), [*[seen] * 20, *[lost] * 20, *[seen] * 20])
    assert events == [(EventType.ZONE_ENTER, 0), (EventType.ZONE_EXIT, 59)]


def test_crossing_while_lost() -> None:
    """A crossing that nobody saw is taken to have been on the straight way."""
    way = [[at(5.0 * n, is_seen=not 15 < n < 30)] for n in range(60)]
    events = watched(ZoneWatch([door()]), way)
    assert events == [(EventType.ZONE_ENTER, 20), (EventType.ZONE_EXIT, 41)]


def test_track_that_ends_inside() -> None:
    """A track that ends leaves when it was seen last."""
    frames = [[at(150)]] * 20 + [[at(150, is_seen=False)]] * 10 + [[]] * 10
    watch = ZoneWatch([door()])
    events = [
        event for n, tracks in enumerate(frames) for event in watch.update(tracks, n / RATE, n)
    ]
    assert [(event.type, event.frame) for event in events] == [
        (EventType.ZONE_ENTER, 0),
        (EventType.ZONE_EXIT, 19),
    ]
    assert events[1].data == {"zone": "door", "track_id": 1, "seconds": 0.76, "reason": "ended"}
    assert watch.finish() == []


def test_dwelling() -> None:
    """Staying for long is told once per visit, as soon as it is long."""
    watch = ZoneWatch([door()], dwell_s=1.0)
    visit, away = [[at(150)]] * 60, [[at(300)]] * 20
    events = watched(watch, [*visit, *away, *visit])
    assert [event for event in events if event[0] is EventType.ZONE_DWELL] == [
        (EventType.ZONE_DWELL, 25),
        (EventType.ZONE_DWELL, 105),
    ]


def test_two_at_once() -> None:
    """Occupancy counts tracks, zones count each for itself."""
    wide = read_zones([SQUARE, {**SQUARE, "name": "hall", "x1": 0, "x2": 600}], 640, 360)
    watch = ZoneWatch(wide)
    for frame in range(20):
        watch.update([at(150, 1), at(160, 2), at(300, 3)], frame / RATE, frame)
    assert (watch.figures["door"].occupancy, watch.figures["hall"].occupancy) == (2, 3)
    watch.finish()
    assert (watch.figures["hall"].occupancy, watch.figures["hall"].peak_occupancy) == (0, 3)


def test_nothing_is_kept_of_ended_tracks() -> None:
    """What is known of tracks is forgotten with them."""
    watch = ZoneWatch([door()])
    for frame in range(500):
        watch.update([at(150, frame)], frame / RATE, frame)
    assert len(watch._followers) == 1
