"""`make demo-video`: frames of a video, and who is in it, through the public API."""

import json
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.table import Table

from devstack.trial import DemoError, Trial, checked_file, run_trial, sizes

FRAMES, ANALYTICS = "video-frames-v1", "video-analytics-v1"
_MOST_TEXTS, _SURE = 8, 0.95
_MIDDLE = [{"name": "middle", "x1": 0.25, "y1": 0.25, "x2": 0.75, "y2": 1.0}]
"""What is watched of a video that we know nothing of: shares of its width and height."""


def demo_video(video: Path | None, output: Path) -> int:
    """Run the demo; 0 when the files lie in `output`."""
    return run_trial(lambda folder: partial(_look_at, *prepared(video, folder), output))


def prepared(path: Path | None, folder: Path) -> tuple[Path, list[dict[str, Any]]]:
    """The video to use, drawn into `folder` if none is named, and the zones to watch in it.

    Raises:
        DemoError: it is no readable file, or PyAV is missing.
    """
    if find_spec("av") is None:
        raise DemoError(
            "PyAV is not installed, which reads videos. `make demo-video` installs it: the "
            "groups video and analytics."
        )
    if path is not None:
        return checked_file(path, "video", "an MP4, MOV, MKV, WebM, AVI, WMV or FLV"), _MIDDLE
    # Imported by name: it needs packages that the rest of the stack does not.
    street = import_module("devstack.samples.street")
    sample = folder / "street.mp4"
    street.write(sample)
    return sample, street.ZONES


def _look_at(video: Path, zones: list[dict[str, Any]], output: Path, trial: Trial) -> None:
    """What any client would do."""
    with trial.step("Uploading the video"):
        object_name = trial.client.upload(video)
    with trial.step("Taking frames"):
        frames = trial.run(FRAMES, {"video_path": object_name})
    with trial.step("Looking for people, cars and words"):
        analysed = trial.run(ANALYTICS, {"video_path": object_name, "zones": zones, "dwell_s": 2})
    with trial.step("Downloading"):
        files = trial.download(frames["id"], output / "frames")
        files += trial.download(analysed["id"], output / "analytics")
    analytics = json.loads((output / "analytics" / "analytics.json").read_text(encoding="utf-8"))
    events = trial.client.events(analysed["id"], "zone.*")
    trial.show(sizes(files, output), zones_table(analytics), events_table(events))
    if texts := texts_line(analytics):
        trial.show(texts)
    trial.show(
        f"Made from {video.name}. {output / 'frames' / 'sprite.jpg'} is the contact sheet, "
        f"{output / 'analytics' / 'annotated.mp4'} plays in any browser."
    )


def zones_table(analytics: dict[str, Any]) -> Table:
    """What was counted in each zone."""
    table = Table("Zone", "Entries", "Exits", "Most at once", "Longest stay")
    for column in table.columns[1:]:
        column.justify = "right"
    for zone in analytics["zones"]:
        longest = zone["dwell"]["longest_s"]
        table.add_row(
            zone["name"],
            *(str(zone[name]) for name in ("entries", "exits", "peak_occupancy")),
            "" if longest is None else f"{longest:.1f} s",
        )
    return table


def events_table(events: list[dict[str, Any]]) -> Table:
    """What happened at the zones, when and to whom."""
    table = Table("Second", "Event", "Zone", "Track")
    table.columns[0].justify = table.columns[3].justify = "right"
    for event in events:
        data = event["data"]
        table.add_row(
            f"{data['time_s']:.2f}", event["type"], str(data["zone"]), str(data["track_id"])
        )
    return table


def texts_line(analytics: dict[str, Any]) -> str:
    """What was read; empty if nothing was."""
    found = sorted(analytics["texts"]["list"], key=lambda text: -float(text["score"]))
    texts = [text["text"] for text in found if text["score"] >= _SURE][:_MOST_TEXTS]
    return f"It reads: {', '.join(texts)}." if texts else ""
