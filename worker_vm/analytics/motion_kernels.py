"""The inner loops of motion detection, compiled by numba."""

import numpy as np
from numpy.typing import NDArray

from worker_vm.rendering.jit import inlined, kernel

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

BACKGROUND, SHADOW, WEAK, STRONG = 0, 1, 2, 3

_NEUTRAL = 3 * 20
"""Cost of a pixel of which nothing is known: outside of the picture, or behind someone else."""
_WORST = 3 * 40
"""Cost of a pixel that is surely wrong, or shows background. Both are sums of three colours."""
_CHUNK = 64
"""After how many pixels it is asked whether a place can still be the best."""
_GOLDEN = 0.618
_RUN = 4096
"""How many pixels the median is taken of at a time: they fit into the processor's cache."""


@kernel
def median(samples: Bytes, result: Bytes) -> None:
    """Write the median along the first axis.

    The least and the greatest of just over half of the samples cannot be the median: they are
    dropped, another sample is taken in, until three are left (Devillard, "Fast Median Search",
    1998). It is done with whole runs of pixels at once, which processors do many at a time.

    Args:
        samples: (n, m), n odd.
        result: (m,)
    """
    count, size = samples.shape
    kept = min(count // 2 + 2, count)
    run = np.empty((kept, _RUN), np.uint8)
    for start in range(0, size, _RUN):
        length = min(_RUN, size - start)
        for number in range(kept):
            run[number, :length] = samples[number, start : start + length]
        low, high = 0, kept - 1
        for taken in range(kept, count):
            _spread(run, low, high)
            low += 1
            run[high, :length] = samples[taken, start : start + length]
        _spread(run, low, high)
        result[start : start + length] = run[(low + high) // 2, :length]


@inlined
def _spread(run: Bytes, low: int, high: int) -> None:
    """Bring the least of some rows to the first of them, and the greatest to the last."""
    for row in range(low + 1, high + 1):
        _order(run[low], run[row])
    for row in range(low + 1, high):
        _order(run[row], run[high])


@inlined
def _order(one: Bytes, other: Bytes) -> None:
    for place in range(_RUN):
        here, there = one[place], other[place]
        one[place] = min(here, there)
        other[place] = max(here, there)


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

    All places are tried, the nearest first, and each is given up as soon as it must be worse than
    the best so far (Bei and Gray, "An Improvement of the Minimum Distortion Encoding Algorithm for
    Vector Quantization", 1985).

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
    pixels, wide = _surroundings(frame, mask, taken, cover.shape, start, reach)
    wanted, at = _shuffled(patch, cover, wide)
    count = max(len(at), 1)
    best, best_x, best_y = np.inf, 0, 0
    for dx, dy in _nearest_first(reach):
        extra = pull * (dx * dx + dy * dy)
        if extra >= best:
            continue
        most = min((best - extra) * 3.0 * count, 2.0**31)
        corner = (dy + reach[1]) * wide + dx + reach[0]
        total = 0
        for first in range(0, len(at), _CHUNK):
            for number in range(first, min(first + _CHUNK, len(at))):
                there = at[number] + corner
                total += _pixel_cost(pixels[there], wanted[number])
            if total > most:
                break
        cost = total / (3.0 * count) + extra
        if cost < best:
            best, best_x, best_y = cost, dx, dy
    return best, best_x, best_y


@inlined
def _surroundings(  # noqa: PLR0917
    frame: Bytes,
    mask: Bytes,
    taken: Bytes,
    sides: tuple[int, int],
    start: NDArray[np.int64],
    reach: NDArray[np.int64],
) -> tuple[NDArray[np.int32], int]:
    """Return all pixels that a patch may come to lie on, row by row, and how long a row is.

    Each is its three colours and what is known of it beforehand: its cost, or -1.
    """
    tall, wide = sides[0] + 2 * reach[1], sides[1] + 2 * reach[0]
    pixels = np.empty((tall * wide, 4), np.int32)
    for v in range(tall):
        y = start[1] - reach[1] + v
        for u in range(wide):
            x = start[0] - reach[0] + u
            pixel = pixels[v * wide + u]
            if x < 0 or y < 0 or y >= mask.shape[0] or x >= mask.shape[1] or taken[y, x] != 0:
                pixel[3] = _NEUTRAL
            elif mask[y, x] == 0:
                pixel[3] = _WORST
            else:
                pixel[3] = -1
                for c in range(3):
                    pixel[c] = frame[y, x, c]
    return pixels, wide


@inlined
def _shuffled(patch: Bytes, cover: Bytes, wide: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return a patch's colours, and where they lie in rows of some length, in a mixed order.

    So the first few tell about all.
    """
    rows, columns = np.nonzero(cover)
    count = len(rows)
    wanted, at = np.empty((count, 3), np.int32), np.empty(count, np.int64)
    step = max(int(count * _GOLDEN), 1)
    while _common_divisor(step, count) > 1:
        step += 1
    place = 0
    for number in range(count):
        v, u = rows[place], columns[place]
        at[number] = v * wide + u
        for c in range(3):
            wanted[number, c] = patch[v, u, c]
        place = (place + step) % count
    return wanted, at


@inlined
def _common_divisor(one: int, other: int) -> int:
    while other:
        one, other = other, one % other
    return one


@inlined
def _nearest_first(reach: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return all steps within reach, (n, 2), the shortest first."""
    across, down = 2 * reach[0] + 1, 2 * reach[1] + 1
    steps = np.empty((across * down, 2), np.int64)
    lengths = np.empty(len(steps), np.int64)
    for number in range(len(steps)):
        dx, dy = number % across - reach[0], number // across - reach[1]
        steps[number, 0], steps[number, 1] = dx, dy
        lengths[number] = dx * dx + dy * dy
    return steps[np.argsort(lengths, kind="mergesort")]


@inlined
def _pixel_cost(pixel: NDArray[np.int32], colour: NDArray[np.int32]) -> int:
    if pixel[3] >= 0:
        return int(pixel[3])
    off = abs(pixel[0] - colour[0]) + abs(pixel[1] - colour[1]) + abs(pixel[2] - colour[2])
    return min(int(off), _WORST)
