"""Parts of `analytics.json`: what was found in a video, added up."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from worker_vm.analytics.boxes import Box
from worker_vm.analytics.clusters import Cluster
from worker_vm.analytics.text_reader import Text
from worker_vm.analytics.zone_watch import ZoneFigures
from worker_vm.analytics.zones import Zone

_DWELL_EDGES_S = (0, 1, 2, 5, 10, 30, 60, 300, 1800)


def zones_summary(
    zones: Sequence[Zone], figures: Mapping[str, ZoneFigures]
) -> list[dict[str, Any]]:
    """What was counted in each zone.

    Args:
        zones: in pixels of the video.
        figures: by the zone's name.
    """
    return [
        {
            "name": zone.name,
            "points": [[round(x, 2), round(y, 2)] for x, y in zone.points],
            "entries": figures[zone.name].entries,
            "exits": figures[zone.name].exits,
            "peak_occupancy": figures[zone.name].peak_occupancy,
            "dwell": _dwell(figures[zone.name].dwell_s),
        }
        for zone in zones
    ]


def clusters_summary(clusters: Iterable[Cluster]) -> list[dict[str, Any]]:
    """How many tracks look alike, and of what colour they are."""
    return [
        {
            "id": cluster.id,
            "tracks": cluster.size,
            "colour": "#" + "".join(f"{round(float(part)):02x}" for part in cluster.colour),
        }
        for cluster in clusters
    ]


def texts_summary(texts: Iterable[Text], scale: tuple[float, float]) -> list[dict[str, Any]]:
    """What was read."""
    return [
        {
            "text": text.text,
            "score": round(text.score, 3),
            "box": scaled(text.box, scale),
            "first_s": round(text.first_s, 4),
            "last_s": round(text.last_s, 4),
            "readings": text.readings,
        }
        for text in texts
    ]


def scaled(box: Box, scale: tuple[float, float]) -> Box:
    """A box of a frame in pixels of the video."""
    across, down = scale
    left, top, right, bottom = box
    return (
        round(left * across, 1),
        round(top * down, 1),
        round(right * across, 1),
        round(bottom * down, 1),
    )


def _dwell(seconds: Sequence[float]) -> dict[str, Any]:
    """How long visits took; the last step of the histogram has no end."""
    counts = [0] * len(_DWELL_EDGES_S)
    for visit in seconds:
        counts[max(bisect_right(_DWELL_EDGES_S, visit) - 1, 0)] += 1
    ends = [*_DWELL_EDGES_S[1:], None]
    return {
        "visits": len(seconds),
        "mean_s": round(sum(seconds) / len(seconds), 3) if seconds else None,
        "longest_s": round(max(seconds), 3) if seconds else None,
        "histogram": [
            {"from_s": start, "to_s": end, "visits": count}
            for start, end, count in zip(_DWELL_EDGES_S, ends, counts, strict=True)
        ],
    }
