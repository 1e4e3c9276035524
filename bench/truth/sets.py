"""Both sets of objects, by name."""

from collections.abc import Callable, Mapping

from bench.truth import held_out, objects
from bench.truth.shapes import Part, Truth, mesh

SETS: Mapping[str, Mapping[str, Callable[[], list[Part]]]] = {
    "tuned on": objects.OBJECTS,
    "held out": held_out.OBJECTS,
}


def make(name: str) -> Truth:
    """Mesh the object of a name."""
    return mesh(next(objects[name] for objects in SETS.values() if name in objects)())
