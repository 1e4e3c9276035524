"""The manifest of a run: what went in, what came out, and with which versions."""

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from worker_vm.manifests import file_facts
from worker_vm.pipelines.sf3d.mesh import Result

_LIBRARIES = ("numba", "numpy", "opencv-python-headless", "pillow")


def write_manifest(
    path: Path,
    about: Mapping[str, Any],
    result: Result,
    glb: Path,
    *,
    quality: Mapping[str, Any],
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """Write the manifest as JSON.

    Args:
        path: where to.
        about: the run, as `stages.finish` gets it.
        result: what was made.
        glb: its file.
        quality: as `quality.json` has it.
        seconds: each stage took.

    Returns:
        Facts about the mesh.
    """
    prepared = about["prepared"]
    positions = result.mesh.positions
    extents = positions.max(axis=0) - positions.min(axis=0)
    mesh = {
        "vertices": len(positions),
        "faces": len(result.mesh.faces),
        "extents": [round(float(side), 6) for side in extents],
        "scale": result.scale,
        "tangents": result.mesh.tangents is not None,
    }
    document = {
        "model": about["model"],
        "model_version": about["model_version"],
        "pipeline": "sf3d",
        "pipeline_version": about["pipeline_version"],
        "parameters": prepared["parameters"],
        "seed": prepared["parameters"]["seed"],
        "input": prepared["input"],
        "cutout": prepared["cutout"],
        "upstream": about["upstream"],
        "mesh": mesh,
        "texture": {"size": result.base_color.shape[1], "media_type": "image/jpeg"},
        "material": {
            "roughness": round(result.roughness, 4),
            "metallic": round(result.metallic, 4),
            "normal_map": result.normal_map is not None,
        },
        "glb": file_facts(glb),
        "quality": dict(quality),
        "libraries": {name: version(name) for name in _LIBRARIES},
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
    }
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return mesh
