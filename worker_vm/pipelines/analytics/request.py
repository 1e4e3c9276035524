"""What the pipeline asks of its confined decoder. Standard library only."""

import json
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Request:
    """What the decoder is to do; fractions as text."""

    media_type: str
    size_bytes: int
    fps: str
    start: str
    end: str | None
    max_frames: int | None
    frame_limit: int
    duplicate_limit: int
    max_pixels: int
    max_seconds: int
    max_width: int
    partial: bool
    samples: int
    """How many frames are wanted beforehand, spread over the beginning of the video."""

    @classmethod
    def from_json(cls, text: str) -> "Request":
        """What `json.dumps(asdict(…))` made."""
        values = json.loads(text)
        return cls(**{field.name: values[field.name] for field in fields(cls)})
