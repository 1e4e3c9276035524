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
from worker_vm.pipelines.inflate.topology import euler_number

_LIBRARIES = (
    "manifold3d", "numba", "numpy", "opencv-python-headless", "pillow", "scikit-image", "scipy",
)  # fmt: skip


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
        "extents": [round(float(side), 6) for side in extents],
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
        "libraries": {name: version(name) for name in _LIBRARIES},
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
    }
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
