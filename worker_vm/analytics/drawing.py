"""What was found, drawn into a frame: zones, ways, boxes and counters."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from worker_vm.analytics.boxes import Frame, Track
from worker_vm.analytics.labels import Colour, line_height, tag, text_width, write
from worker_vm.analytics.zones import Zone

_TRACK_COLOURS: tuple[Colour, ...] = (
    (80, 200, 255),
    (255, 190, 70),
    (130, 230, 120),
    (180, 120, 255),
    (255, 120, 170),
    (100, 140, 255),
    (220, 220, 90),
    (120, 255, 220),
)
_ZONE_COLOURS: tuple[Colour, ...] = (
    (60, 170, 255),
    (210, 160, 40),
    (120, 190, 60),
    (200, 90, 200),
    (90, 90, 235),
    (190, 190, 60),
)
_WHITE: Colour = (255, 255, 255)
_SOFT: Colour = (205, 205, 205)
_WARNING: Colour = (60, 60, 230)
_FILL = 0.16
_PANEL = 0.62
"""How much of a zone's colour, or of the panel's black, covers the picture."""
_TRAIL_S = 2.5
_TRAIL_POINTS = 128
_MOST_LINES = 8
_NARROWEST_PANEL = 240


@dataclass(frozen=True)
class ZoneCount:
    """What the panel says of a zone."""

    inside: int
    entries: int
    exits: int


@dataclass(frozen=True)
class Scene:
    """What is to be seen in one frame besides the frame itself."""

    time_s: float
    tracks: Sequence[Track]
    zones: Sequence[ZoneCount]
    """In the order of the painter's zones."""
    seen_so_far: int
    """How many tracks there have been."""
    texts: Sequence[tuple[str, tuple[float, float, float, float]]] = ()
    """What was read lately, and where."""


class Painter:
    """Draws the frames of one video, in order.

    Args:
        width: of the frames.
        height: of the frames.
        zones: of the video, in pixels of the frames.
        names: of the classes; a single one is not written at each box.
        is_mock: whether the boxes mean nothing, which is then written into each frame.
    """

    def __init__(
        self, width: int, height: int, zones: Sequence[Zone], names: Sequence[str], *, is_mock: bool
    ) -> None:
        self._size = width, height
        self._zones = [
            _DrawnZone(zone, _ZONE_COLOURS[number % len(_ZONE_COLOURS)], width, height)
            for number, zone in enumerate(zones)
        ]
        self._names = names
        self._is_mock = is_mock
        self._letters = int(np.clip(height / 45, 9, 24))
        self._line = max(round(height / 360), 1)
        self._trails: dict[int, deque[tuple[float, int, int]]] = {}

    def draw(self, frame: Frame, scene: Scene) -> Frame:
        """Return the frame with everything in it; the frame itself stays as it is."""
        picture = frame.copy()
        for zone in self._zones:
            zone.fill(picture, self._line)
        self._draw_trails(picture, scene)
        for track in scene.tracks:
            self._draw_box(picture, track)
        for text, box in scene.texts:
            self._draw_text(picture, text, box)
        for zone in self._zones:
            tag(picture, zone.name, zone.corner, self._letters, zone.colour)
        self._draw_panel(picture, scene)
        if self._is_mock:
            self._draw_warning(picture)
        return picture

    def _draw_trails(self, picture: Frame, scene: Scene) -> None:
        for track in scene.tracks:
            left, _, right, bottom = track.box
            trail = self._trails.setdefault(track.id, deque(maxlen=_TRAIL_POINTS))
            if track.is_seen:
                trail.append((scene.time_s, round((left + right) / 2), round(bottom)))
            while trail and trail[0][0] < scene.time_s - _TRAIL_S:
                trail.popleft()
            if len(trail) > 1:
                points = np.array([(x, y) for _, x, y in trail], np.int32)
                colour = _colour_of(track)
                cv2.polylines(picture, [points], False, colour, self._line, cv2.LINE_AA)  # noqa: FBT003
        alive = {track.id for track in scene.tracks}
        for ended in self._trails.keys() - alive:
            del self._trails[ended]

    def _draw_box(self, picture: Frame, track: Track) -> None:
        left, top, right, bottom = (round(edge) for edge in track.box)
        colour = _colour_of(track)
        if not track.is_seen:
            _draw_corners(picture, (left, top, right, bottom), colour, self._line)
            return
        cv2.rectangle(picture, (left, top), (right, bottom), colour, self._line, cv2.LINE_AA)
        label = f"#{track.id}"
        if len(self._names) > 1:
            label += f" {self._names[track.class_id]} {track.confidence:.2f}"
        tag(picture, label, (left - self._line // 2, top), self._letters, colour)

    def _draw_text(self, picture: Frame, text: str, box: tuple[float, float, float, float]) -> None:
        left, top, right, bottom = (round(edge) for edge in box)
        cv2.rectangle(picture, (left, top), (right, bottom), _WHITE, 1, cv2.LINE_AA)
        height = line_height(self._letters) + 2
        tag(picture, text[:40], (left, bottom + height), self._letters, _WHITE)

    def _draw_panel(self, picture: Frame, scene: Scene) -> None:
        """Time and counters, in the upper left corner."""
        if self._size[0] < _NARROWEST_PANEL:
            return
        now = sum(track.is_seen for track in scene.tracks)
        lines = [(f"{_clock(scene.time_s)}   {now} now   {scene.seen_so_far} in all", _WHITE)]
        counts = list(zip(self._zones, scene.zones, strict=True))
        lines += [
            (f"{zone.name}: {c.inside} inside, {c.entries} in, {c.exits} out", zone.colour)
            for zone, c in counts[:_MOST_LINES]
        ]
        if len(counts) > _MOST_LINES:
            lines.append((f"and {len(counts) - _MOST_LINES} zones more", _SOFT))
        high, pad = line_height(self._letters), self._letters // 2
        width = max(text_width(text, self._letters) for text, _ in lines) + 3 * pad
        under = picture[pad : pad + high * len(lines) + pad, pad : pad + width]
        under[:] = cv2.convertScaleAbs(under, alpha=1 - _PANEL)
        for number, (text, colour) in enumerate(lines):
            y = pad + pad // 2 + number * high
            if number:
                cv2.rectangle(picture, (pad, y), (pad + pad // 2, y + high - 2), colour, -1)
            write(picture, text, (2 * pad, y), self._letters, _WHITE)

    def _draw_warning(self, picture: Frame) -> None:
        text = "MOCK: these boxes mean nothing"
        size = self._letters
        while text_width(text, size) > self._size[0] - size and size > 6:  # noqa: PLR2004
            size -= 1
        x = (self._size[0] - text_width(text, size)) // 2 - size // 4
        tag(picture, text, (x, self._size[1]), size, _WARNING)


class _DrawnZone:
    """A zone as it is laid over frames: only the part of the picture around it is touched."""

    def __init__(self, zone: Zone, colour: Colour, width: int, height: int) -> None:
        points = np.array(zone.points)
        self.name = zone.name
        self.colour = colour
        self._outline = points.round().astype(np.int32)
        left, top = (int(edge) for edge in np.floor(points.min(axis=0)).clip(0))
        right, bottom = (
            int(edge) for edge in np.minimum(np.ceil(points.max(axis=0)), (width, height))
        )
        self.corner = left, top + 1
        self._where = np.s_[top:bottom, left:right]
        mask = np.zeros((max(bottom - top, 1), max(right - left, 1)), np.uint8)
        cv2.fillPoly(mask, [self._outline - (left, top)], 255)
        self._mask: NDArray[np.uint8] = mask
        self._tint = np.empty((*mask.shape, 3), np.uint8)
        self._tint[:] = colour

    def fill(self, picture: Frame, line: int) -> None:
        under = picture[self._where]
        if under.size:
            mixed = cv2.addWeighted(under, 1 - _FILL, self._tint, _FILL, 0)
            cv2.copyTo(mixed, self._mask, under)
        cv2.polylines(picture, [self._outline], True, self.colour, line, cv2.LINE_AA)  # noqa: FBT003


def _colour_of(track: Track) -> Colour:
    return _TRACK_COLOURS[track.id % len(_TRACK_COLOURS)]


def _draw_corners(
    picture: Frame, box: tuple[int, int, int, int], colour: Colour, line: int
) -> None:
    """Only the corners of a box: here something should be that is hidden."""
    left, top, right, bottom = box
    arm = max(min(right - left, bottom - top) // 5, 3)
    for x, y, across, down in (
        (left, top, arm, arm),
        (right, top, -arm, arm),
        (left, bottom, arm, -arm),
        (right, bottom, -arm, -arm),
    ):
        cv2.line(picture, (x, y), (x + across, y), colour, line, cv2.LINE_AA)
        cv2.line(picture, (x, y), (x, y + down), colour, line, cv2.LINE_AA)


def _clock(seconds: float) -> str:
    tenths = int(seconds * 10)
    return f"{tenths // 36000}:{tenths // 600 % 60:02}:{tenths // 10 % 60:02}.{tenths % 10}"
