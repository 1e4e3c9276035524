"""What is known of one thing that is followed."""

from collections import Counter
from dataclasses import dataclass, field

from worker_vm.analytics.boxes import Box, Track
from worker_vm.analytics.course import Course
from worker_vm.analytics.looks import Look

_ENOUGH_LOOKS = 3


@dataclass
class Identity:
    """Whom a track follows: its id, its way and its looks."""

    number: int
    course: Course = field(default_factory=Course)
    confidence: float = 0.0
    votes: Counter[int] = field(default_factory=Counter)
    look: Look | None = None
    looks: int = 0
    """How it looks on average, and how many looks that comes of."""

    @property
    def is_known(self) -> bool:
        """Whether it has been looked at often enough to tell it from others."""
        return self.looks >= _ENOUGH_LOOKS

    def see(self, time_s: float, box: Box, class_id: int, confidence: float) -> None:
        """Take up where it is seen now, and as what."""
        self.course.add(time_s, box)
        self.confidence = confidence
        self.votes[class_id] += 1

    def learn(self, look: Look) -> None:
        """Take up how it looks now."""
        self.look = look if self.look is None else self.look.learnt(look, self.looks)
        self.looks += 1

    def unlikeness(self, look: Look) -> float | None:
        """Return how little it looks like that, 0 to 1; None if that is not known."""
        return self.look.distance(look) if self.look is not None and self.is_known else None

    def now(self, box: Box, *, is_seen: bool) -> Track:
        """Return it as the track of one frame."""
        class_id = max(self.votes, key=self.votes.__getitem__)
        return Track(self.number, box, class_id, self.confidence, is_seen)
