"""The inner loop of unfolding, compiled by numba."""

import math

import numpy as np
from numpy.typing import NDArray

from worker_vm.rendering.jit import kernel

EMPTY = -1


@kernel
def draw(
    points: NDArray[np.float64],
    faces: NDArray[np.int64],
    face_at: NDArray[np.int32],
    depth_at: NDArray[np.float64],
    hidden: NDArray[np.bool_],
) -> None:
    """Draw faces of either orientation, and note which are hidden in some texel.

    Args:
        points: (n, 3) x and y in texels, and nearness.
        faces: (m, 3)
        face_at: (h, w), EMPTY at first.
        depth_at: (h, w), -inf at first.
        hidden: (m,), False at first.
    """
    height, width = face_at.shape
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ax, ay = points[a, 0], points[a, 1]
        bx, by = points[b, 0], points[b, 1]
        cx, cy = points[c, 0], points[c, 1]
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if area == 0.0:
            continue
        x0 = max(math.ceil(min(ax, bx, cx) - 0.5), 0)
        x1 = min(math.floor(max(ax, bx, cx) - 0.5), width - 1)
        y0 = max(math.ceil(min(ay, by, cy) - 0.5), 0)
        y1 = min(math.floor(max(ay, by, cy) - 0.5), height - 1)
        for y in range(y0, y1 + 1):
            py = y + 0.5
            for x in range(x0, x1 + 1):
                px = x + 0.5
                wa = ((bx - px) * (cy - py) - (cx - px) * (by - py)) / area
                wb = ((cx - px) * (ay - py) - (ax - px) * (cy - py)) / area
                wc = 1.0 - wa - wb
                # Strictly inside: neighbours do not hide each other along their edge.
                if wa <= 0.0 or wb <= 0.0 or wc <= 0.0:
                    continue
                depth = wa * points[a, 2] + wb * points[b, 2] + wc * points[c, 2]
                other = face_at[y, x]
                if other == EMPTY or depth > depth_at[y, x]:
                    if other != EMPTY:
                        hidden[other] = True
                    face_at[y, x] = f
                    depth_at[y, x] = depth
                else:
                    hidden[f] = True
