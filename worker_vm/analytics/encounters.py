"""Who is who after some have hidden each other.

Trackers that go by overlap alone often exchange those who part again. So what each looked like, and
how it moved, is kept from before they met; as long as they are together, and shortly after, that
decides whose box is whose.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from worker_vm.analytics.boxes import Box, area, common_area
from worker_vm.analytics.course import Course
from worker_vm.analytics.identity import Identity
from worker_vm.analytics.looks import Look

_TOUCHING = 0.05
"""Which share of the smaller one two boxes have in common when they meet."""
_PARTED_S = 0.4
"""For how long they must be apart until the encounter is over."""
_SHOWS = 0.15
"""Which share of a thing must be visible for its looks to tell anything."""
_CLEAR = 0.8
"""And for its looks to be learnt."""
_STAY = 0.1
"""How much better it must be to exchange someone."""
_UNKNOWN = 0.4
"""How unlike someone is whose looks are not known."""
_MOTION = 0.2
_FARTHEST = 1.0
"""What it counts to be so many widths from where someone should be; what is further counts so."""


@dataclass
class _Encounter:
    """What one of those who met was like before."""

    course: Course
    partners: dict[int, float] = field(default_factory=dict)
    """When each was last too near, by number."""


class Seen(NamedTuple):
    """A box, and whom the tracker takes it for."""

    identity: Identity
    box: Box
    look: Look


class Encounters:
    """Remembers who meets whom in one video."""

    def __init__(self) -> None:
        self._open: dict[int, _Encounter] = {}

    def settle(
        self, time_s: float, seen: Sequence[Seen], lost: Sequence[tuple[Identity, Box]]
    ) -> list[Identity]:
        """Return whose each of the seen boxes is, and learn how those look who are by themselves.

        Args:
            time_s: of the frame.
            seen: whom the tracker takes each box for.
            lost: who else should be where by now.
        """
        everyone = [*((one.identity, one.box) for one in seen), *lost]
        # Who is seen for the first time has nothing to be told by yet.
        self._meet(time_s, [one for one in everyone if one[0].course])
        owners = [one.identity for one in seen]
        for group in self._groups({identity.number: identity for identity, _ in everyone}):
            numbers = {member.number for member in group}
            places = [place for place, one in enumerate(seen) if one.identity.number in numbers]
            divided = self._divided(time_s, group, [seen[place] for place in places])
            for place, owner in zip(places, divided, strict=True):
                if owners[place] is not owner:
                    owner.course = self._open[owner.number].course.copy()
                owners[place] = owner
        for owner, one in zip(owners, seen, strict=True):
            is_sure = owner.number not in self._open or not owner.is_known
            if is_sure and one.look.share >= _CLEAR:
                owner.learn(one.look)
        return owners

    def forget(self, number: int) -> None:
        """Someone's track has ended."""
        self._open.pop(number, None)
        for encounter in self._open.values():
            encounter.partners.pop(number, None)

    def _meet(self, time_s: float, everyone: Sequence[tuple[Identity, Box]]) -> None:
        """Note who is near whom, and whose encounters are over."""
        for place, (one, box) in enumerate(everyone):
            for other, there in everyone[place + 1 :]:
                if common_area(box, there) > _TOUCHING * min(area(box), area(there)):
                    for who, partner in ((one, other), (other, one)):
                        if who.number not in self._open:
                            self._open[who.number] = _Encounter(who.course.copy())
                        self._open[who.number].partners[partner.number] = time_s
        for number, encounter in list(self._open.items()):
            for met, near_s in list(encounter.partners.items()):
                if time_s - near_s > _PARTED_S:
                    del encounter.partners[met]
            if not encounter.partners:
                del self._open[number]

    def _groups(self, everyone: dict[int, Identity]) -> Iterator[list[Identity]]:
        """Return who has to do with each other, directly or through others."""
        left = self._open.keys() & everyone.keys()
        while left:
            group, new = set[int](), {min(left)}
            while new:
                group |= new
                new = {p for n in new for p in self._open[n].partners if p in left} - group
            left -= group
            yield [everyone[number] for number in sorted(group)]

    def _divided(
        self, time_s: float, members: Sequence[Identity], seen: Sequence[Seen]
    ) -> list[Identity]:
        """Return whose each box is, so that all together fits best."""
        costs = np.empty((len(seen), len(members)))
        for column, member in enumerate(members):
            expected = self._open[member.number].course.expected(time_s)
            for row, one in enumerate(seen):
                costs[row, column] = (
                    _looks_cost(member, one.look)
                    + _MOTION * _distance(expected, one.box)
                    - _STAY * (one.identity is member)
                )
        return [members[column] for column in linear_sum_assignment(costs)[1]]


def _looks_cost(member: Identity, look: Look) -> float:
    if look.share < _SHOWS:
        return 0.0
    unlikeness = member.unlikeness(look)
    return look.share * (_UNKNOWN if unlikeness is None else unlikeness)


def _distance(expected: Box, box: Box) -> float:
    """Return how far two boxes' middles are apart, in widths of the first, but not too much."""
    across = abs(expected[0] + expected[2] - box[0] - box[2]) / 2
    return min(across / max(expected[2] - expected[0], 1.0), _FARTHEST)
