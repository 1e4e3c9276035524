"""Khronos' glTF validator, where the operator has installed it.

It is a program of its own (https://github.com/KhronosGroup/glTF-Validator), which no Python package
brings; the setting says how to call it.
"""

import json
import os
import shlex
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SETTING = "GLTF_VALIDATOR"
_SECONDS = 120
_MOST_MESSAGES = 20


@dataclass(frozen=True)
class Verdict:
    """What the validator says of a file, or why it says nothing."""

    checked: bool
    reason: str | None = None
    """why the file was not checked"""
    version: str | None = None
    errors: int = 0
    warnings: int = 0
    messages: list[str] = field(default_factory=list)
    """the first ones, errors before anything else"""


def validate(path: Path) -> Verdict:
    """Have a GLB validated; never an error, since a missing validator is no fault of the file."""
    command = shlex.split(os.environ.get(SETTING, ""))
    if not command:
        reason = f"No validator is installed on this worker ({SETTING} is not set)."
        return Verdict(checked=False, reason=reason)
    try:
        done = subprocess.run(  # noqa: S603  (the operator's own setting)
            [*command, "-o", str(path)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            check=False,  # its status says whether there are errors, and so does its report
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return _unchecked(f"The validator did not run ({type(error).__name__}).")
    try:
        return _read(json.loads(done.stdout))
    except (ValueError, LookupError, TypeError):
        said = done.stderr.decode(errors="replace").strip()[-200:]
        return _unchecked(f"The validator gave no report (status {done.returncode}): {said}")


def _read(report: dict[str, Any]) -> Verdict:
    issues = report["issues"]
    messages = sorted(issues["messages"], key=lambda message: int(message["severity"]))
    return Verdict(
        checked=True,
        version=str(report["validatorVersion"]),
        errors=int(issues["numErrors"]),
        warnings=int(issues["numWarnings"]),
        messages=[
            f"{message['code']} {message.get('pointer', '')}: {message['message']}"
            for message in messages[:_MOST_MESSAGES]
        ],
    )


def _unchecked(reason: str) -> Verdict:
    # In the run's log too: whoever has named a validator wants to know.
    print(reason)  # noqa: T201
    return Verdict(checked=False, reason=reason)
