"""Tables in Markdown, the numbers in them, and limits."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

median = statistics.median


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that so large a share of all does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def ms(seconds: float) -> str:
    """Seconds as milliseconds, to three figures or so."""
    return f"{seconds * 1e3:.{0 if seconds >= 0.1 else 1}f}"


def print_table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; all columns but the first are numbers."""
    print(f"| {' | '.join(heads)} |")
    print(f"|{'|'.join(['---'] + ['---:'] * (len(heads) - 1))}|")
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |")
    print(flush=True)


@dataclass
class Limits:
    """What is to be reached, and whether it was."""

    rows: list[tuple[str, str, str, str]] = field(default_factory=list)
    missed: bool = False

    def at_least(self, what: str, limit: float, value: float) -> None:
        """The value must not be smaller."""
        self._note(what, f"at least {limit:g}", f"{value:.2f}", met=value >= limit)

    def below(self, what: str, limit: float, value: float, unit: str = "") -> None:
        """The value must be smaller."""
        self._note(what, f"under {limit:g}{unit}", f"{value:.3g}{unit}", met=value < limit)

    def at_most(self, what: str, limit: float, value: float) -> None:
        """The value must not be greater."""
        self._note(what, f"at most {limit:g}", f"{value:.2f}", met=value <= limit)

    def _note(self, what: str, limit: str, value: str, *, met: bool) -> None:
        self.rows.append((what, limit, value, "met" if met else "**missed**"))
        self.missed |= not met
