"""Normals along the rim, where front and back meet."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_LOST = 1e-9


def level_normals(normals: Array, points: Array, rim: Array, border: Array) -> Array:
    """Normals without the part across the rim, the same on both halves: no crease there.

    A normal of the rim that has no other part, since the height field is flat where it was
    sampled, is made of the edges beside it.

    Args:
        normals: (n, 3) unit.
        points: (n, 3)
        rim: (n,) whether a point lies on the rim.
        border: (k, 2) the edges of the front's border, its inside always on the same side.
    """
    levelled = normals.copy()
    levelled[rim, 2] = 0.0
    length = np.linalg.norm(levelled, axis=1)
    lost = rim & (length < _LOST)
    if lost.any():
        levelled[lost, :2] = _outwards(points[:, :2], border)[lost]
        length = np.linalg.norm(levelled, axis=1)
        levelled[length < _LOST, 0] = 1.0  # the tip of a needle: any direction will do
        length = np.maximum(length, np.abs(levelled[:, 0]))
    return np.asarray(levelled / np.maximum(length, _LOST)[:, None])


def _outwards(places: Array, border: Array) -> Array:
    """Of each point: across its edges of the border and away from what they enclose (n, 2)."""
    start, end = places[border[:, 0]], places[border[:, 1]]
    along = end - start
    across = np.stack([along[:, 1], -along[:, 0]], axis=1)
    enclosed = (start[:, 0] * end[:, 1] - end[:, 0] * start[:, 1]).sum()
    total = np.zeros(places.shape)
    for side in (0, 1):
        np.add.at(total, border[:, side], across * np.sign(enclosed))
    return total
