"""The inner loops of motion detection, compiled by numba."""

import numpy as np
from numpy.typing import NDArray

from worker_vm.rendering.jit import kernel

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

BACKGROUND, SHADOW, WEAK, STRONG = 0, 1, 2, 3

_NEUTRAL = 20.0
"""Cost of a pixel of which nothing is known: outside of the picture, or behind someone else."""
_WORST = 40.0
"""Cost of a pixel that is surely wrong, or shows background."""


@kernel
def median(samples: Bytes, result: Bytes) -> None:
    """Write the median along the first axis.

    Args:
        samples: (n, m), n odd.
        result: (m,)
    """
    count, size = samples.shape
    ordered = np.empty(count, np.uint8)
    for place in range(size):
        for number in range(count):
            value = samples[number, place]
            at = number
            while at > 0 and ordered[at - 1] > value:
                ordered[at] = ordered[at - 1]
                at -= 1
            ordered[at] = value
        result[place] = ordered[count // 2]


@kernel
def classify(  # noqa: PLR0917  (compiled code takes no keywords)
    frame: Bytes,
    ground: Bytes,
    gain: Floats,
    slack: Floats,
    limits: Floats,
    labels: Bytes,
) -> None:
    """Tell what differs from the background, and what is only darker.

    A pixel whose colour is the background's times a share, is shadow (Horprasert et al., "A
    Statistical Approach for Real-time Robust Background Subtraction and Shadow Detection", 1999).

    Args:
        frame: (h, w, 3)
        ground: (h, w, 3), the background.
        gain: (3,), how much brighter than the background the light is now, per channel.
        slack: (h, w), how far a pixel may be off besides, for the background is uneven there.
        limits: (5,): a weak and a strong difference; the darkest and the lightest shadow as a
            share of the light; how far a shadow's colour may be off.
        labels: (h, w), written: BACKGROUND, SHADOW, WEAK or STRONG.
    """
    height, width = labels.shape
    weak, strong, darkest, lightest, off = limits[0], limits[1], limits[2], limits[3], limits[4]
    for y in range(height):
        for x in range(width):
            most = np.float32(0.0)
            product = np.float32(0.0)
            square = np.float32(1.0)
            for c in range(3):
                seen = np.float32(frame[y, x, c])
                lit = min(ground[y, x, c] * gain[c], np.float32(255.0))
                most = max(most, abs(seen - lit))
                product += seen * lit
                square += lit * lit
            most -= slack[y, x]
            if most < weak:
                labels[y, x] = BACKGROUND
                continue
            labels[y, x] = STRONG if most >= strong else WEAK
            share = product / square
            if share < darkest or share > lightest:
                continue
            apart = np.float32(0.0)
            for c in range(3):
                lit = min(ground[y, x, c] * gain[c], np.float32(255.0))
                apart = max(apart, abs(np.float32(frame[y, x, c]) - share * lit))
            if apart <= off + slack[y, x]:
                labels[y, x] = SHADOW


@kernel
def fit(  # noqa: PLR0917
    frame: Bytes,
    mask: Bytes,
    taken: Bytes,
    patch: Bytes,
    cover: Bytes,
    start: NDArray[np.int64],
    reach: NDArray[np.int64],
    pull: float,
) -> tuple[float, int, int]:
    """Look for the place near `start` where a patch fits best.

    Args:
        frame: (h, w, 3)
        mask: (h, w), not 0 where something moves.
        taken: (h, w), not 0 where someone is who may hide the patch.
        patch: (a, b, 3), how it looked.
        cover: (a, b), not 0 where the patch shows it.
        start: (2,): x and y of the patch's corner.
        reach: (2,): how far to look, in x and y.
        pull: what each squared pixel from the start costs.

    Returns:
        The mean cost per pixel, and how far off the start the best place is in x and y.
    """
    tall, wide = cover.shape
    best, best_x, best_y = 2.0 * _WORST + 1e6, 0, 0
    for dy in range(-reach[1], reach[1] + 1):
        for dx in range(-reach[0], reach[0] + 1):
            total, count = 0.0, 0
            for v in range(tall):
                y = start[1] + dy + v
                for u in range(wide):
                    if cover[v, u] == 0:
                        continue
                    x = start[0] + dx + u
                    count += 1
                    total += _pixel_cost(frame, mask, taken, x, y, patch[v, u])
            cost = total / max(count, 1) + pull * (dx * dx + dy * dy)
            if cost < best:
                best, best_x, best_y = cost, dx, dy
    return best, best_x, best_y


@kernel
def _pixel_cost(  # noqa: PLR0917
    frame: Bytes, mask: Bytes, taken: Bytes, x: int, y: int, colour: Bytes
) -> float:
    if x < 0 or y < 0 or y >= mask.shape[0] or x >= mask.shape[1] or taken[y, x] != 0:
        return _NEUTRAL
    if mask[y, x] == 0:
        return _WORST
    off = 0.0
    for c in range(3):
        off += abs(float(frame[y, x, c]) - float(colour[c]))
    return min(off / 3.0, _WORST)
