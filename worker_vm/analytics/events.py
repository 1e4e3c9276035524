"""What happened in a video, one fact at a time."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class EventType(StrEnum):
    """Every kind of fact that the analysis of a video reports."""

    TRACK_START = "track.start"
    TRACK_END = "track.end"
    ZONE_ENTER = "zone.enter"
    ZONE_EXIT = "zone.exit"
    ZONE_DWELL = "zone.dwell"
    OCR_TEXT = "ocr.text"
    CLUSTER_ASSIGNED = "cluster.assigned"


@dataclass(frozen=True)
class Event:
    """One fact, at one moment of the video."""

    type: EventType
    time_s: float
    """When it happened; it may be reported later, once it is certain."""
    frame: int
    """Number of the frame at that moment."""
    data: dict[str, Any] = field(default_factory=dict)
    """What else is known, as JSON."""
