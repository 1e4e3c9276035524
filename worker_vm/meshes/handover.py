"""How a 3D pipeline ends: one call."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from contract.attempts import FailureCode
from contract.kinds import ArtifactKind
from worker_vm.meshes.contents import BrokenGlbError, Contents, Part, Surface
from worker_vm.meshes.crossings import find_crossings
from worker_vm.meshes.formats import MEDIA_TYPES, ONLY_GLB, Format
from worker_vm.meshes.glb_reader import read_glb
from worker_vm.meshes.quality import assess
from worker_vm.meshes.texel_use import measure_texels
from worker_vm.meshes.validator import Verdict, validate
from worker_vm.pipelines.base import PipelineError, Reporter

_SHOWN_ERRORS = 3


def hand_over(
    glb: Path, report: Reporter, formats: Collection[Format] = ONLY_GLB
) -> dict[str, Any]:
    """Check a GLB and hand it over, with `quality.json` and the other formats beside it.

    Args:
        glb: the result, in the run's folder.
        report: hears of the files, the GLB first: it is what a download gives.
        formats: what was asked for; GLB is always made.

    Returns:
        What `quality.json` says, for the manifest's section `quality`.

    Raises:
        PipelineError: INVALID_OUTPUT, the GLB is not valid; nothing has been handed over.
        RunCancelledError: passed through from `report`.
    """
    try:
        contents = read_glb(glb)
    except BrokenGlbError as error:
        raise _invalid(glb, error.problem) from error
    verdict = validate(glb)
    if verdict.errors:
        raise _invalid(glb, _told(verdict))
    document = {"file": glb.name, **assess(contents, verdict).document()}
    quality = glb.with_name("quality.json")
    quality.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    report.artifact(ArtifactKind.MODEL_3D, glb, MEDIA_TYPES[Format.GLB])
    report.artifact(ArtifactKind.ANALYTICS, quality, "application/json")
    for wanted in sorted(set(formats) - {Format.GLB}):
        from worker_vm.meshes.exports import write  # noqa: PLC0415  (imports for half a second)

        path = write(contents, wanted, glb)
        report.artifact(ArtifactKind.MODEL_3D, path, MEDIA_TYPES[wanted])
    return document


def warm_up() -> None:
    """Compile, or load from the cache, what `hand_over` is made of; for `Pipeline.setup`."""
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]])
    faces = np.array([[0, 2, 1], [0, 1, 3]])
    find_crossings(points, faces)
    part = Part(points, faces, None, points[:, :2], Surface(base_color_texture=0))
    measure_texels(Contents((part,), ()))


def _told(verdict: Verdict) -> str:
    return f"fails Khronos' validator: {'; '.join(verdict.messages[:_SHOWN_ERRORS])}"


def _invalid(glb: Path, problem: str) -> PipelineError:
    return PipelineError(
        FailureCode.INVALID_OUTPUT,
        f"The pipeline made a result that cannot be kept: {glb.name} {problem.rstrip('.')}.",
        permanent=False,
    )
