"""Which tracks look alike: clusters of appearance.

A thing looks like its colours: a histogram in CIELAB of the middle of its box, averaged over
several looks. Histograms are compared by Hellinger's distance. A track joins the nearest cluster,
or founds one (leader clustering: Hartigan, "Clustering Algorithms", 1975, chapter 3), once it has
been seen often enough for its average to be steady.
"""

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from worker_vm.analytics.boxes import Box, Frame, Track

_BINS = (6, 20, 20)
"""Of lightness, green to red, blue to yellow."""
_BLUR = (1.0, 1.0, 1.0)
"""In bins: colours on both sides of a border are alike."""
_RANGES = (0, 256, 16, 240, 16, 240)
_MIDDLE = 0.6
"""Which share of a box is looked at: its rim is background."""
_LOOKS = 3
_FARTHEST = 0.6
"""From which distance on (0 to 1) things look different."""
_MOST = 64
_SMALLEST_SIDE = 4
_LONGEST_SIDE = 64


@dataclass
class Cluster:
    """Things that look alike."""

    id: int
    """From 1 on, in the order in which they were founded."""
    look: NDArray[np.float64]
    """The mean histogram of its tracks."""
    colour: NDArray[np.float64]
    """The mean colour of its tracks: red, green, blue, 0 to 255."""
    size: int = 1


@dataclass
class _Looks:
    """What has been seen of a track that has no cluster yet."""

    histogram: NDArray[np.float64]
    colour: NDArray[np.float64]
    count: int = 1


@dataclass
class Clusters:
    """Sorts the tracks of one video by appearance."""

    clusters: list[Cluster] = field(default_factory=list)
    _looks: dict[int, _Looks] = field(default_factory=dict)
    _known: dict[int, int] = field(default_factory=dict)

    def of(self, track_id: int) -> int | None:
        """A living track's cluster; None as long as it has none."""
        return self._known.get(track_id)

    def look(self, frame: Frame, tracks: list[Track]) -> dict[int, int]:
        """Look at all tracks in a frame.

        Returns:
            Tracks that have just been given their cluster, and which.
        """
        assigned = {}
        for track in tracks:
            if not track.is_seen or track.id in self._known:
                continue
            seen = _appearance(frame, track.box)
            if seen is None:
                continue
            looks = self._looks.get(track.id)
            if looks is None:
                self._looks[track.id] = _Looks(*seen)
                continue
            looks.count += 1
            looks.histogram += (seen[0] - looks.histogram) / looks.count
            looks.colour += (seen[1] - looks.colour) / looks.count
            if looks.count >= _LOOKS:
                del self._looks[track.id]
                assigned[track.id] = self._known[track.id] = self._join(looks)
        return assigned

    def forget(self, track_id: int) -> None:
        """A track has ended."""
        self._looks.pop(track_id, None)
        self._known.pop(track_id, None)

    def _join(self, looks: _Looks) -> int:
        """Put a track into the nearest cluster, or into a new one."""
        distances = [_hellinger(looks.histogram, cluster.look) for cluster in self.clusters]
        nearest = int(np.argmin(distances)) if distances else -1
        if nearest < 0 or (distances[nearest] > _FARTHEST and len(distances) < _MOST):
            self.clusters.append(Cluster(len(distances) + 1, looks.histogram, looks.colour))
            return len(self.clusters)
        cluster = self.clusters[nearest]
        cluster.size += 1
        cluster.look = cluster.look + (looks.histogram - cluster.look) / cluster.size
        cluster.colour = cluster.colour + (looks.colour - cluster.colour) / cluster.size
        return cluster.id


def _appearance(frame: Frame, box: Box) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """The histogram and the mean colour of a box's middle; None if it is too small."""
    left, top, right, bottom = box
    rim_x, rim_y = (right - left) * (1 - _MIDDLE) / 2, (bottom - top) * (1 - _MIDDLE) / 2
    height, width = frame.shape[:2]
    x1, x2 = (int(np.clip(x, 0, width)) for x in (left + rim_x, right - rim_x))
    y1, y2 = (int(np.clip(y, 0, height)) for y in (top + rim_y, bottom - rim_y))
    if min(x2 - x1, y2 - y1) < _SMALLEST_SIDE:
        return None
    step = max(x2 - x1, y2 - y1) // _LONGEST_SIDE + 1
    crop = np.ascontiguousarray(frame[y1:y2:step, x1:x2:step])
    lab = cv2.cvtColor(crop, cv2.COLOR_BGR2LAB)
    counts = cv2.calcHist([lab], [0, 1, 2], None, list(_BINS), list(_RANGES))
    smooth = gaussian_filter(counts.astype(np.float64), _BLUR, mode="nearest").ravel()
    histogram = smooth / max(float(smooth.sum()), 1e-9)
    return histogram, crop.reshape(-1, 3).mean(axis=0)[::-1].astype(np.float64)


def _hellinger(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float(np.sqrt(max(1.0 - float(np.sqrt(one * other).sum()), 0.0)))
