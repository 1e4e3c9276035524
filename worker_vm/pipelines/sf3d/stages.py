"""What comes before and after the model, in the worker's own Python: called by `Companion`."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2

from contract.kinds import ArtifactKind
from worker_vm import gltf
from worker_vm.cutout import Hints, cut_out
from worker_vm.images import decode
from worker_vm.manifests import picture_facts, rounded
from worker_vm.matting import with_alpha
from worker_vm.meshes.formats import Format
from worker_vm.meshes.handover import hand_over
from worker_vm.pipelines.base import Reporter
from worker_vm.pipelines.meter import Meter
from worker_vm.pipelines.sf3d import framing
from worker_vm.pipelines.sf3d.manifest import write_manifest
from worker_vm.pipelines.sf3d.mesh import Result, read_result
from worker_vm.pipelines.sf3d.parameters import read_parameters
from worker_vm.rendering import previews
from worker_vm.rendering.studio import Studio, clay, textured
from worker_vm.textures import encode_jpeg, encode_png

_PREVIEW = ArtifactKind.PREVIEW
_CUTOUT = "cutout.png"

cv2.setNumThreads(int(os.environ.get("WORKER_THREADS", "1")))


def prepare(arguments: dict[str, Any], report: Reporter) -> dict[str, Any]:
    """Check the parameters, decode the picture and cut its subject out.

    Raises:
        PipelineError: INVALID_PARAMETERS, INVALID_INPUT, CUTOUT_…
    """
    parameters = read_parameters(arguments["params"])
    path, work_dir = Path(arguments["picture"]), Path(arguments["work_dir"])
    meter = Meter()
    report.progress(1, "decode", "Reading the picture")
    with meter.stage("decode"):
        picture = decode(path, work_dir)
    report.progress(8, "cutout", "Finding the subject")
    with meter.stage("cutout"):
        subject = cut_out(
            with_alpha(picture.rgba), hints=Hints(), seed=parameters.seed, max_side=framing.SIDE
        )
        square = framing.frame(subject, parameters.foreground_ratio)
        (work_dir / _CUTOUT).write_bytes(encode_png(square))
    return {
        "parameters": parameters.model_dump(mode="json"),
        "input": picture_facts(path, picture),
        "cutout": {
            "name": _CUTOUT,
            **rounded(asdict(subject.quality)),
        },
        "seconds": meter.seconds,
    }


def finish(arguments: dict[str, Any], report: Reporter) -> dict[str, Any]:
    """Write the GLB, the previews and the manifest of a mesh that upstream has made.

    Raises:
        PipelineError: MESH_INVALID, INVALID_OUTPUT.
    """
    folder = Path(arguments["work_dir"]) / "output"
    folder.mkdir()
    meter = Meter()
    meter.seconds |= arguments["seconds"]
    report.progress(55, "export", "Writing the GLB")
    with meter.stage("export"):
        result = read_result(arguments["mesh"])
        glb = folder / "model.glb"
        _write(glb, result, arguments)
    report.progress(58, "quality", "Checking the result")
    with meter.stage("quality"):
        wanted = map(Format, arguments["prepared"]["parameters"]["formats"])
        quality = hand_over(glb, report, [*wanted])
    _show(result, folder, meter, report)
    facts = write_manifest(
        folder / "manifest.json", arguments, result, glb, quality=quality, seconds=meter.seconds
    )
    report.artifact(ArtifactKind.MANIFEST, folder / "manifest.json", "application/json")
    report.progress(100, "previews", "Done")
    return {
        "metrics": {
            **{f"{stage}_seconds": value for stage, value in meter.seconds.items()},
            "total_seconds": sum(meter.seconds.values()),
            "vertices": float(facts["vertices"]),
            "faces": float(facts["faces"]),
            "glb_bytes": float(glb.stat().st_size),
        }
    }


def _write(path: Path, result: Result, arguments: dict[str, Any]) -> None:
    normal_map = None if result.normal_map is None else encode_png(result.normal_map)
    gltf.write_glb(
        path,
        result.mesh,
        gltf.Material(
            encode_jpeg(result.base_color),
            "image/jpeg",
            result.roughness,
            result.metallic,
            normal_map,
        ),
        name="subject",
        extras={
            "model": arguments["model"],
            "model_version": arguments["model_version"],
            "pipeline": f"sf3d {arguments['pipeline_version']}",
            "seed": arguments["prepared"]["parameters"]["seed"],
        },
    )


def _show(result: Result, folder: Path, meter: Meter, report: Reporter) -> None:
    report.progress(60, "previews", "First look")
    with meter.stage("previews"):
        studio = Studio(result.mesh)
        look = textured(result.base_color, result.roughness)
    views = [("clay", clay(), previews.CLAY_AZIMUTH)]
    views += [(name, look, azimuth) for name, azimuth in previews.STILLS.items()]
    for number, (name, surface, azimuth) in enumerate(views):
        path = folder / f"preview_{name}.png"
        report.progress(61 + 4 * number, "previews", f"Rendering the {name} view")
        with meter.stage("previews"):
            previews.write_still(studio, surface, path, azimuth)
        report.artifact(_PREVIEW, path, "image/png")
    path = folder / "turntable.webp"
    with meter.stage("previews"):
        previews.write_turntable(
            studio,
            look,
            path,
            lambda share: report.progress(81 + 17 * share, "previews", "Rendering the turntable"),
        )
    report.artifact(_PREVIEW, path, "image/webp")
