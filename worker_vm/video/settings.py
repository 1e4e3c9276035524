"""How much of a video is too much: the operator's limits. Standard library only."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from importlib.util import find_spec

_MIB = 1 << 20
THREADS_BESIDE_DECODERS = 3
"""Of a confined child: the one that has it all done, the one that makes pictures of frames, and one
that has ended but is not gone yet. A system counts them all."""
_PACKAGES = {"av": "av", "numpy": "numpy", "PIL": "pillow", "pydantic": "pydantic"}
_GROUP = " (poetry install --only worker,video)"


@dataclass(frozen=True)
class VideoSettings:
    """Limits; each is set by VIDEO_ and its name in capitals."""

    max_pixels: int = 4096 * 2304
    """Of one picture."""
    max_seconds: int = 4 * 3600
    """That a video, or the wanted part of it, may last."""
    max_frames: int = 20_000
    """That a job may make."""
    max_copies: int = 3600
    """Of one frame, where the next one is long in coming."""
    max_output_mib: int = 4096
    memory_mib: int = 1024
    """Of the decoder, beyond its program."""
    work_seconds: int = 1700
    """That decoding may take; less than the model's time limit, which tells nobody why."""

    @property
    def max_output_bytes(self) -> int:
        """Of the ZIP."""
        return self.max_output_mib * _MIB

    @property
    def memory_bytes(self) -> int:
        """Of the decoder, beyond its program."""
        return self.memory_mib * _MIB


def read_settings(environment: Mapping[str, str] = os.environ) -> VideoSettings:
    """The settings; raises ValueError with a sentence if one is malformed."""
    names = [field.name for field in fields(VideoSettings)]
    return VideoSettings(**whole_numbers("VIDEO_", names, environment))


def whole_numbers(
    prefix: str, names: Iterable[str], environment: Mapping[str, str]
) -> dict[str, int]:
    """Those settings that are given, by their names in small letters and without the prefix.

    Raises:
        ValueError: one is no whole number above 0.
    """
    values = {}
    for name in names:
        setting = f"{prefix}{name.upper()}"
        text = environment.get(setting, "").strip()
        if not text:
            continue
        if not text.isascii() or not text.isdigit() or int(text) == 0:
            raise ValueError(f"{setting} must be a whole number above 0.")
        values[name] = int(text)
    return values


def unavailable_reasons(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Why this machine cannot read videos, as sentences; imports nothing heavy."""
    reasons = [
        f"The Python package '{package}' is not installed{_GROUP if module == 'av' else ''}."
        for module, package in _PACKAGES.items()
        if find_spec(module) is None
    ]
    try:
        read_settings(environment)
    except ValueError as error:
        reasons.append(str(error))
    return reasons
