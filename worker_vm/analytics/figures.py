"""Telling things apart that touch or hide each other in the mask of what moves.

Things that cross become one blob. What each looked like while it was alone, and where it should be
by now, tell where in the blob it is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from worker_vm.analytics import motion_kernels
from worker_vm.analytics.boxes import Box, Frame
from worker_vm.analytics.course import Course

Mask = NDArray[np.uint8]
Rect = tuple[int, int, int, int]
"""Left, top, right, bottom in whole pixels."""

_LOST_S = 1.5
_STEADY_FRAMES = 3
"""In how many frames something must have moved until it is believed."""
_ESTABLISHED_FRAMES = 8
"""In how many frames it must have been alone, until it is looked for in larger blobs."""
_PATIENCE_S = 0.6
"""How long a figure may not be found in a blob too large for it, until that is taken as a whole."""
_LINKED = 0.25
"""Which share of the smaller one a blob and a figure's place must have in common."""
_GROWTH = 1.35
"""By how much a figure's box may exceed its usual size."""
_PULL = 0.12
_REACH = (7, 4)
_UNLIKE = 30.0
"""The mean difference of its pixels from which on a place does not look like a figure any more."""
_SHOWS = 0.3
"""Which share of a figure must show, for it to count as seen."""


@dataclass(frozen=True)
class Look:
    """How a figure looked when it was alone."""

    patch: Frame
    """[a, b, 3]"""
    cover: Mask
    """[a, b], not 0 where the patch shows the figure."""

    @property
    def area(self) -> int:
        """How many pixels it covers."""
        return int(np.count_nonzero(self.cover))


@dataclass
class Figure:
    """One thing that moves, or has moved."""

    course: Course = field(default_factory=Course)
    look: Look | None = None
    frames: int = 0
    seen_s: float = 0.0
    alone_frames: int = 0
    alone_s: float = 0.0
    """In how many frames it was no part of a larger blob, and when last."""
    fits_s: float = 0.0
    """When last it was where it should be, looking and as large as before."""

    @property
    def is_alone(self) -> bool:
        """Whether it was no part of a larger blob when it was last seen."""
        return self.alone_s == self.seen_s

    @property
    def is_established(self) -> bool:
        """Whether its looks are known well enough to find it in a larger blob."""
        return self.alone_frames >= _ESTABLISHED_FRAMES

    @property
    def is_steady(self) -> bool:
        """Whether it has been seen often enough to be believed."""
        return self.frames >= _STEADY_FRAMES


@dataclass(frozen=True)
class Scene:
    """One frame, as far as it moves."""

    frame: Frame
    mask: Mask
    """[height, width], not 0 where something moves."""
    time_s: float


class Figures:
    """Remembers all figures of one video, and finds them again in each frame."""

    def __init__(self) -> None:
        self._known: list[Figure] = []

    def find(self, scene: Scene, blobs: Sequence[Rect]) -> list[Figure]:
        """Return the figures that are seen in a frame.

        Args:
            scene: the frame.
            blobs: the boxes around what is connected in the mask.
        """
        known = list(self._known)  # which resolving a group changes
        places = [_rounded(figure.course.expected(scene.time_s)) for figure in known]
        for members, parts in _groups(places, blobs):
            group = [known[index] for index in members]
            here = [places[index] for index in members]
            self._resolve(scene, group, here, [blobs[index] for index in parts])
        now = scene.time_s
        self._known = [
            figure
            for figure in self._known
            if figure.seen_s == now or (figure.is_steady and now - figure.seen_s <= _LOST_S)
        ]
        return [figure for figure in self._known if figure.seen_s == now and figure.is_steady]

    def forget(self, figure: Figure) -> None:
        """Forget a figure that turned out to be none."""
        self._known = [known for known in self._known if known is not figure]

    def _resolve(
        self, scene: Scene, group: Sequence[Figure], places: Sequence[Rect], blobs: Sequence[Rect]
    ) -> None:
        """Divide some blobs among the figures that may have caused them."""
        claims = _claims(blobs, places)
        merged = [index for index, claim in enumerate(claims) if len(claim) > 1]
        involved = sorted({figure for index in merged for figure in claims[index]})
        for number, figure in enumerate(group):
            own = [blobs[index] for index, claim in enumerate(claims) if claim == [number]]
            if number not in involved and own:
                self._take(scene, figure, places[number], own)
        if merged:
            known = [number for number in involved if group[number].is_established]
            known = known or [max(involved, key=lambda number: group[number].frames)]
            for number in set(involved) - set(known):
                self._known.remove(group[number])
            if len(known) == 1:
                self._take(scene, group[known[0]], places[known[0]], [blobs[i] for i in merged])
            else:
                self._separate(scene, [group[i] for i in known], [places[i] for i in known])
        for blob, claim in zip(blobs, claims, strict=True):
            if not claim:
                self._begin(scene, blob)

    def _take(self, scene: Scene, figure: Figure, place: Rect, blobs: Sequence[Rect]) -> None:
        """Give a figure its blobs, as far as they may be parts of one thing."""
        whole, *others = sorted(blobs, key=lambda blob: _common(blob, place), reverse=True)
        for blob in others:
            joined = _union(whole, blob)
            if _is_stacked(whole, blob) and _fits(joined, place):
                whole = joined
            else:
                self._begin(scene, blob)
        if (
            _fits(whole, place)
            or scene.time_s - figure.fits_s > _PATIENCE_S
            or not figure.is_established
        ):
            _see(scene, figure, whole)
        else:
            self._separate(scene, [figure], [place])

    def _begin(self, scene: Scene, blob: Rect) -> None:
        figure = Figure()
        _see(scene, figure, blob)
        self._known.append(figure)

    @staticmethod
    def _separate(
        scene: Scene,
        group: Sequence[Figure],
        places: Sequence[Rect],
    ) -> None:
        """Find each figure of a group in what they cover together.

        Who looks most as before stands in front; what it covers may hide the others.
        """
        taken = np.zeros_like(scene.mask)
        free = [
            (_fitted(scene, taken, figure, place), number)
            for number, (figure, place) in enumerate(zip(group, places, strict=True))
        ]
        for alone, number in sorted(free):
            figure = group[number]
            cost, rect = _fitted(scene, taken, figure, places[number]) if taken.any() else alone
            if cost > _UNLIKE:
                continue
            shown = _claim(scene.mask, taken, figure, rect)
            if shown >= _SHOWS:
                figure.course.add(scene.time_s, _floats(rect))
                figure.frames += 1
                figure.seen_s = scene.time_s
                figure.fits_s = scene.time_s


def _see(scene: Scene, figure: Figure, rect: Rect) -> None:
    left, top, right, bottom = rect
    figure.course.add(scene.time_s, _floats(rect))
    figure.frames += 1
    figure.seen_s = scene.time_s
    figure.alone_frames += 1
    figure.alone_s = figure.fits_s = scene.time_s
    part = np.s_[top:bottom, left:right]
    figure.look = Look(scene.frame[part].copy(), scene.mask[part].copy())


def _fitted(scene: Scene, taken: Mask, figure: Figure, place: Rect) -> tuple[float, Rect]:
    """Return where a figure is most likely, and how unlike it that place looks."""
    look = figure.look
    assert look is not None
    tall, wide = look.cover.shape
    start = np.array([(place[0] + place[2] - wide) // 2, place[3] - tall])
    cost, dx, dy = motion_kernels.fit(
        scene.frame, scene.mask, taken, look.patch, look.cover, start, np.array(_REACH), _PULL
    )
    left, top = int(start[0]) + dx, int(start[1]) + dy
    return cost, (left, top, left + wide, top + tall)


def _claim(mask: Mask, taken: Mask, figure: Figure, rect: Rect) -> float:
    """Mark what a figure covers as taken; return which share of it moves and is not hidden."""
    assert figure.look is not None
    cover = figure.look.cover
    height, width = mask.shape
    left, top = rect[:2]
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(rect[2], width), min(rect[3], height)
    if x0 >= x1 or y0 >= y1:
        return 0.0
    own = cover[y0 - top : y1 - top, x0 - left : x1 - left] != 0
    region = np.s_[y0:y1, x0:x1]
    shown = np.count_nonzero(own & (taken[region] == 0) & (mask[region] != 0))
    taken[region][own] = 1
    return shown / max(figure.look.area, 1)


def _claims(blobs: Sequence[Rect], places: Sequence[Rect]) -> list[list[int]]:
    """Return who may have caused each blob.

    A blob that is near to several, but no larger than the one it overlaps with most, is that one's
    alone, if the others have such a blob too.
    """
    claims = [
        [number for number, place in enumerate(places) if _shared(blob, place) >= _LINKED]
        for blob in blobs
    ]
    best = [
        max(claim, key=lambda number: _overlap(blob, places[number])) if claim else None
        for blob, claim in zip(blobs, claims, strict=True)
    ]
    served = {
        number
        for blob, number in zip(blobs, best, strict=True)
        if number is not None and _fits(blob, places[number])
    }
    return [
        [number]
        if number is not None and served.issuperset(claim) and _fits(blob, places[number])
        else claim
        for blob, claim, number in zip(blobs, claims, best, strict=True)
    ]


def _groups(places: Sequence[Rect], blobs: Sequence[Rect]) -> Iterable[tuple[list[int], list[int]]]:
    """Return which figures and blobs have to do with each other, directly or through others."""
    left = set(range(len(blobs)))
    figures = set(range(len(places)))
    while left or figures:
        members, parts = set(), set()
        if left:
            parts.add(left.pop())
        else:
            members.add(figures.pop())
        grows = True
        while grows:
            more = {
                index
                for index in figures
                if any(_shared(blobs[part], places[index]) >= _LINKED for part in parts)
            }
            figures -= more
            members |= more
            others = {
                part
                for part in left
                if any(_shared(blobs[part], places[index]) >= _LINKED for index in members)
            }
            left -= others
            parts |= others
            grows = bool(more or others)
        yield sorted(members), sorted(parts)


def _rounded(box: Box) -> Rect:
    left, top, right, bottom = (round(edge) for edge in box)
    return left, top, max(right, left + 1), max(bottom, top + 1)


def _area(rect: Rect) -> int:
    return max(rect[2] - rect[0], 0) * max(rect[3] - rect[1], 0)


def _common(one: Rect, other: Rect) -> int:
    left, top = max(one[0], other[0]), max(one[1], other[1])
    return _area((left, top, max(min(one[2], other[2]), left), max(min(one[3], other[3]), top)))


def _shared(one: Rect, other: Rect) -> float:
    return _common(one, other) / max(min(_area(one), _area(other)), 1)


def _overlap(one: Rect, other: Rect) -> float:
    common = _common(one, other)
    return common / max(_area(one) + _area(other) - common, 1)


def _union(one: Rect, other: Rect) -> Rect:
    return (
        min(one[0], other[0]), min(one[1], other[1]), max(one[2], other[2]), max(one[3], other[3])
    )  # fmt: skip


def _fits(rect: Rect, usual: Rect) -> bool:
    return (
        rect[2] - rect[0] <= _GROWTH * (usual[2] - usual[0]) + 3
        and rect[3] - rect[1] <= _GROWTH * (usual[3] - usual[1]) + 3
    )


def _is_stacked(one: Rect, other: Rect) -> bool:
    """Tell whether one lies above the other, as parts of a person do."""
    common = min(one[2], other[2]) - max(one[0], other[0])
    return common >= min(one[2] - one[0], other[2] - other[0]) / 2


def _floats(rect: Rect) -> Box:
    left, top, right, bottom = rect
    return float(left), float(top), float(right), float(bottom)
