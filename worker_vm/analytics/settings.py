"""What the operator sets for the analysis of videos. Standard library only."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from worker_vm.video import settings as video_settings

MODEL_SETTING = "YOLO_MODEL_PATH"
CONFIDENCE_SETTING = "DETECTION_CONFIDENCE_THRESHOLD"
PRESET_SETTING = "ANALYTICS_X264_PRESET"
PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium")

_PACKAGES = {
    "cv2": "opencv-python-headless",
    "matplotlib": "matplotlib",
    "onnxruntime": "onnxruntime",
    "rapidocr": "rapidocr",
    "scipy": "scipy",
    "supervision": "supervision",
    "trackers": "trackers",
}
_NUMBERS = ("max_frames", "max_events", "work_seconds")


@dataclass(frozen=True)
class AnalyticsSettings:
    """Limits are set by ANALYTICS_ and their names in capitals."""

    max_frames: int = 200_000
    """That a job may analyse."""
    max_events: int = 1000
    """Of each type that are told while a job runs."""
    work_seconds: int = 3500
    """That a job may take."""
    preset: str = "veryfast"
    """Of x264, for the annotated video."""
    model_path: Path | None = None
    """The operator's network, for the detector `onnx`."""
    confidence: float = 0.5
    """From which on a detection counts, where the job says nothing else."""


def read_settings(environment: Mapping[str, str] = os.environ) -> AnalyticsSettings:
    """The settings; raises ValueError with a sentence if one is malformed."""
    given = {name: environment.get(name, "").strip() for name in _TEXTS}
    preset = given[PRESET_SETTING] or AnalyticsSettings.preset
    if preset not in PRESETS:
        raise ValueError(f"{PRESET_SETTING} must be one of {', '.join(PRESETS)}.")
    path = Path(given[MODEL_SETTING]) if given[MODEL_SETTING] else None
    if path is not None and not path.is_file():
        raise ValueError(f"{MODEL_SETTING} must name an ONNX file that is there.")
    return AnalyticsSettings(
        **video_settings.whole_numbers("ANALYTICS_", _NUMBERS, environment),
        preset=preset,
        model_path=path,
        confidence=_share(given[CONFIDENCE_SETTING] or "0.5"),
    )


_TEXTS = (PRESET_SETTING, MODEL_SETTING, CONFIDENCE_SETTING)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= 1:
        raise ValueError(f"{CONFIDENCE_SETTING} must be a number above 0, at most 1.")
    return value


def unavailable_reasons(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Why this machine cannot analyse videos, as sentences; imports nothing heavy."""
    reasons = video_settings.unavailable_reasons(environment)
    reasons += [
        f"The Python package '{package}' is not installed"
        " (poetry install --only worker,video,analytics)."
        for module, package in _PACKAGES.items()
        if find_spec(module) is None
    ]
    try:
        read_settings(environment)
    except ValueError as error:
        reasons.append(str(error))
    return reasons
