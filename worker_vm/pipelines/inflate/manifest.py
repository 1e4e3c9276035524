"""The manifest of a run: what went in, what came out, and with which versions."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from worker_vm.cutout import Subject
from worker_vm.manifests import file_facts, rounded
from worker_vm.pipelines.base import RunInput
from worker_vm.pipelines.inflate.model import Shape
from worker_vm.pipelines.inflate.parameters import Parameters
from worker_vm.pipelines.inflate.symmetry import ALIKE, Mirror
from worker_vm.pipelines.inflate.topology import euler_number

_LIBRARIES = {
    name: version(name)
    for name in (
        "manifold3d", "numba", "numpy", "opencv-python-headless", "pillow", "scikit-image", "scipy",
    )
}  # fmt: skip


def mesh_facts(shape: Shape) -> dict[str, Any]:
    """Describe the mesh: joined points, and that it is one closed body."""
    faces = shape.balloon.faces
    extents = shape.mesh.positions.max(axis=0) - shape.mesh.positions.min(axis=0)
    return {
        "vertices": len(np.unique(faces)),
        "vertices_with_seam": len(shape.mesh.positions),
        "faces": len(faces),
        # `surface.build` returns nothing else.
        "watertight": True,
        "bodies": 1,
        "euler_number": euler_number(faces),
        "profile": shape.profile,
        "symmetry": symmetry_facts(shape.mirror, shape.axis),
        "extents": [round(float(side), 6) for side in extents],
    }


def symmetry_facts(mirror: Mirror, axis: float) -> dict[str, Any]:
    """Say how symmetric the outline was, about which axis, and what was made of it."""
    warnings = []
    applied = mirror.paired is not None
    if applied and mirror.overlap < ALIKE:
        warnings.append(
            f"The outline is far from symmetrical (score {mirror.overlap:.2f}): only what has a "
            "counterpart on the other side was made symmetrical, the rest is as the picture shows."
        )
    if mirror.outline_kept:
        warnings.append(
            "A part or a hole of the outline would have gone, so it is as the picture shows; only "
            "the relief was made symmetrical."
        )
    return {
        "asked": mirror.asked,
        "applied": applied,
        "axis": round(axis, 4),
        "score": round(mirror.overlap, 4),
        "warnings": warnings,
    }


def write_manifest(
    path: Path,
    *,
    job: RunInput,
    pipeline_version: str,
    parameters: Parameters,
    given: Mapping[str, Any],
    subject: Subject,
    mesh: Mapping[str, Any],
    texture_side: int,
    glb: Path,
    quality: Mapping[str, Any],
    seconds: Mapping[str, float],
) -> None:
    """Write the manifest as JSON."""
    document = {
        "model": job.model_id,
        "model_version": job.model_version,
        "pipeline": "inflate",
        "pipeline_version": pipeline_version,
        "parameters": parameters.model_dump(mode="json"),
        "seed": parameters.seed,
        "input": dict(given),
        "cutout": rounded(asdict(subject.quality)),
        "mesh": dict(mesh),
        "texture": {"size": texture_side, "media_type": "image/jpeg"},
        "glb": file_facts(glb),
        "quality": dict(quality),
        "libraries": _LIBRARIES,
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
    }
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
