"""Khronos' glTF validator, as the tests call it."""

import json
import subprocess
from pathlib import Path
from typing import Any

from devstack.node import node_command

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests" / "tools" / "validate_gltf.mjs"


def validate_gltf(path: Path) -> dict[str, Any]:
    """Return the report; `issues.numErrors` and `issues.messages` are its heart.

    Raises:
        RuntimeError: the validator could not run; `make test` installs it.
    """
    node = node_command(ROOT)
    if node is None or not (SCRIPT.parent / "node_modules" / "gltf-validator").exists():
        raise RuntimeError("gltf-validator is not installed; run `sh devstack/setup.sh tools`.")
    done = subprocess.run(
        [*node, str(SCRIPT), str(path)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"gltf-validator could not read {path}: {done.stderr.strip()}")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def gltf_errors(path: Path) -> list[dict[str, Any]]:
    """The issues of severity 0, which make a file invalid."""
    messages: list[dict[str, Any]] = validate_gltf(path)["issues"]["messages"]
    return [message for message in messages if message["severity"] == 0]
