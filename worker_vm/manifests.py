"""What the manifests of several pipelines say in the same way."""

import hashlib
from pathlib import Path
from typing import Any

from worker_vm.images import Picture


def picture_facts(path: Path, picture: Picture) -> dict[str, Any]:
    """Describe an uploaded picture."""
    return {
        "sha256": sha256_of(path),
        "bytes": path.stat().st_size,
        "format": picture.format,
        "width": picture.rgba.shape[1],
        "height": picture.rgba.shape[0],
    }


def file_facts(path: Path) -> dict[str, Any]:
    """Describe a result."""
    return {"name": path.name, "sha256": sha256_of(path), "bytes": path.stat().st_size}


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def rounded(value: Any) -> Any:
    """Facts with their numbers rounded, however nested."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return round(value, 4) if isinstance(value, float) else value
