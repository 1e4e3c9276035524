"""What every manifest says of its run, whichever pipeline has made it. Standard library only."""

import json
import os
import platform
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from worker_vm.host_memory import device_name

MEDIA_TYPE = "application/json"
_SECTION = "run"
_LARGEST = 16 << 20


def add_run(path: Path, facts: Mapping[str, Any]) -> None:
    """Say in a manifest how its run was made; one that is no JSON object stays as it is."""
    try:
        if path.is_symlink() or path.stat().st_size > _LARGEST:
            return  # a link is refused by the worker, and must not become a file before
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return
    if isinstance(document, dict):
        _write(path, {**document, _SECTION: _section(facts)})


def new_manifest(folder: Path, facts: Mapping[str, Any]) -> Path:
    """A manifest for a run whose pipeline has made none."""
    path = folder / "manifest.json"
    if path.exists():
        path = folder / "run-manifest.json"
    _write(path, {_SECTION: _section(facts)})
    return path


def _section(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {**facts, "machine": _machine()}


def _machine() -> dict[str, Any]:
    """What of this machine and process may change the last bit of a result."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "gpu": device_name(),
    }


@cache
def _processor() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, None)


def _write(path: Path, document: Mapping[str, Any]) -> None:
    partial = path.with_name(f"{path.name}.part")
    partial.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)
