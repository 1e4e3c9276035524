"""The manifest of a run: what went in, what came out, and with which versions."""

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from worker_vm import gltf
from worker_vm.pipelines.dreamfusion.meshing import Surface
from worker_vm.pipelines.dreamfusion.settings import PACKAGES


def mesh_facts(surface: Surface, mesh: gltf.Mesh, charts: int) -> dict[str, Any]:
    """Describe the mesh: joined points, and that it is closed."""
    return {
        "vertices": len(surface.points),
        "vertices_with_seam": len(mesh.positions),
        "faces": len(surface.faces),
        # manifold3d makes nothing else.
        "watertight": True,
        "bodies": surface.bodies,
        "charts": charts,
        "extents": [round(float(side), 6) for side in np.ptp(mesh.positions, axis=0)],
    }


def file_facts(path: Path) -> dict[str, Any]:
    """Name, checksum and size of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"name": path.name, "sha256": digest, "bytes": path.stat().st_size}


def versions() -> dict[str, str]:
    """Versions of the libraries that decide what comes out."""
    found = {}
    for package in PACKAGES.values():
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def write_manifest(path: Path, document: Mapping[str, Any]) -> None:
    """Write the manifest as JSON."""
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
