"""Who enters, leaves and lingers in which zone."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from worker_vm.analytics.boxes import Box, Track
from worker_vm.analytics.events import Event, EventType
from worker_vm.analytics.zones import Zone

_MAX_STEPS = 120
"""In how many steps the way of a track that was lost is retraced at most."""


class Moment(NamedTuple):
    """A point in time of the video."""

    time_s: float
    frame: int


@dataclass
class ZoneFigures:
    """What has been counted in one zone so far."""

    entries: int = 0
    exits: int = 0
    occupancy: int = 0
    """How many are inside."""
    peak_occupancy: int = 0
    dwell_s: list[float] = field(default_factory=list)
    """How long each visit took that has ended, in seconds."""


@dataclass
class _Visit:
    """One track and one zone."""

    is_inside: bool = False
    entered: Moment | None = None
    turned: Moment | None = None
    """Since when it has been on the other side, if not for long enough yet to count."""
    has_dwelt: bool = False


@dataclass
class _Follower:
    """One track, and what it does in every zone."""

    visits: list[_Visit]
    moment: Moment
    foot: NDArray[np.float64]


class ZoneWatch:
    """Turns the tracks of one video into events of its zones.

    A track is where its foot is, the middle of its box's lower edge. It has changed sides only once
    it has stayed on the other one for a while (debounce), so that a box that trembles on a border
    makes no events; the event then carries the moment at which it crossed. While a track is lost,
    it stays where it was. If it is seen again, it is taken to have moved in a straight line
    meanwhile; if not, it left when it was seen last.

    Args:
        zones: what to watch; names differ.
        dwell_s: seconds after which a visit counts as dwelling.
        debounce_s: seconds that a change of sides must last.
    """

    def __init__(
        self, zones: Sequence[Zone], *, dwell_s: float = 10.0, debounce_s: float = 0.2
    ) -> None:
        self._zones = zones
        self._dwell_s = dwell_s
        self._debounce_s = debounce_s
        self._followers: dict[int, _Follower] = {}
        self.figures = {zone.name: ZoneFigures() for zone in zones}
        """What has been counted, by the zone's name."""

    def update(self, tracks: Iterable[Track], time_s: float, frame: int) -> list[Event]:
        """Return what has become certain with this frame, in order of time.

        A track that is not among `tracks` any more has ended.
        """
        moment = Moment(time_s, frame)
        alive = set()
        events: list[Event] = []
        for track in tracks:
            alive.add(track.id)
            if track.is_seen:
                events += self._follow(track, moment)
        for ended in [number for number in self._followers if number not in alive]:
            events += self._end(ended)
        return sorted(events, key=lambda event: event.time_s)

    def finish(self) -> list[Event]:
        """Return the last events: at the end of the video all tracks end."""
        events = [event for number in list(self._followers) for event in self._end(number)]
        return sorted(events, key=lambda event: event.time_s)

    def _follow(self, track: Track, moment: Moment) -> list[Event]:
        foot = _foot(track.box)
        follower = self._followers.get(track.id)
        if follower is None:
            follower = _Follower([_Visit() for _ in self._zones], moment, foot)
            self._followers[track.id] = follower
        moments, feet = _way(follower, moment, foot)
        follower.moment, follower.foot = moment, foot
        events: list[Event] = []
        for zone, visit in zip(self._zones, follower.visits, strict=True):
            for at, is_inside in zip(moments, zone.holds(feet).tolist(), strict=True):
                events += self._step(zone.name, track.id, visit, at, is_inside=is_inside)
        return events

    def _step(
        self, zone: str, track: int, visit: _Visit, at: Moment, *, is_inside: bool
    ) -> list[Event]:
        events = []
        if is_inside == visit.is_inside:
            visit.turned = None
        else:
            visit.turned = visit.turned or at
            if at.time_s - visit.turned.time_s >= self._debounce_s:
                events.append(self._cross(zone, track, visit))
        if visit.is_inside and visit.turned is None and not visit.has_dwelt:
            assert visit.entered
            if at.time_s - visit.entered.time_s >= self._dwell_s:
                visit.has_dwelt = True
                events.append(_event(EventType.ZONE_DWELL, at, zone, track, seconds=self._dwell_s))
        return events

    def _cross(self, zone: str, track: int, visit: _Visit) -> Event:
        """Change sides, at the moment at which the track turned."""
        assert visit.turned
        at, visit.turned = visit.turned, None
        if visit.is_inside:
            return self._leave(zone, track, visit, at, reason="left")
        visit.is_inside, visit.entered, visit.has_dwelt = True, at, False
        figures = self.figures[zone]
        figures.entries += 1
        figures.occupancy += 1
        figures.peak_occupancy = max(figures.peak_occupancy, figures.occupancy)
        return _event(EventType.ZONE_ENTER, at, zone, track)

    def _leave(self, zone: str, track: int, visit: _Visit, at: Moment, *, reason: str) -> Event:
        assert visit.entered
        seconds = round(at.time_s - visit.entered.time_s, 3)
        visit.is_inside, visit.entered = False, None
        figures = self.figures[zone]
        figures.exits += 1
        figures.occupancy -= 1
        figures.dwell_s.append(seconds)
        return _event(EventType.ZONE_EXIT, at, zone, track, seconds=seconds, reason=reason)

    def _end(self, track: int) -> list[Event]:
        follower = self._followers.pop(track)
        return [
            self._leave(zone.name, track, visit, visit.turned or follower.moment, reason="ended")
            for zone, visit in zip(self._zones, follower.visits, strict=True)
            if visit.is_inside
        ]


def _foot(box: Box) -> NDArray[np.float64]:
    left, _, right, bottom = box
    return np.array([(left + right) / 2, bottom])


def _way(
    follower: _Follower, moment: Moment, foot: NDArray[np.float64]
) -> tuple[list[Moment], NDArray[np.float64]]:
    """Return where the track has been since it was seen last, frame by frame, now included."""
    gap = moment.frame - follower.moment.frame
    shares = np.linspace(0.0, 1.0, min(max(gap, 1), _MAX_STEPS) + 1)[1:]
    before = follower.moment
    moments = [
        Moment(
            before.time_s + share * (moment.time_s - before.time_s),
            before.frame + round(share * gap),
        )
        for share in shares[:-1].tolist()
    ]
    feet = follower.foot + shares[:, None] * (foot - follower.foot)
    return [*moments, moment], feet


def _event(kind: EventType, at: Moment, zone: str, track: int, **more: float | str) -> Event:
    return Event(kind, at.time_s, at.frame, {"zone": zone, "track_id": track, **more})
