"""One run of `inflate`, stage by stage."""

from pathlib import Path

import numpy as np

from contract.kinds import ArtifactKind
from worker_vm import gltf
from worker_vm.cutout import Subject, cut_out
from worker_vm.images import Picture, decode
from worker_vm.manifests import picture_facts
from worker_vm.meshes import handover
from worker_vm.pipelines.base import Reporter, RunInput
from worker_vm.pipelines.inflate import model
from worker_vm.pipelines.inflate.manifest import mesh_facts, write_manifest
from worker_vm.pipelines.inflate.parameters import read_parameters
from worker_vm.pipelines.meter import Meter
from worker_vm.rendering import previews
from worker_vm.rendering.studio import Studio, clay, textured
from worker_vm.textures import encode_jpeg

_PREVIEW = ArtifactKind.PREVIEW


class Run:
    """The stages decode, cutout, geometry, texture, export, quality and previews, in that order."""

    def __init__(self, job: RunInput, report: Reporter, pipeline_version: str) -> None:
        self._job = job
        self._report = report
        self._version = pipeline_version
        self._parameters = read_parameters(job.params)
        self._meter = Meter()
        self._path = job.inputs["image_path"]

    def execute(self) -> dict[str, float]:
        """Run all stages and return the metrics."""
        picture, subject = self._see()
        given = picture_facts(self._path, picture)
        del picture
        shape, studio = self._shape(subject)
        glb, texture = self._export(shape)
        self._report.progress(58, "quality", "Checking the result")
        with self._meter.stage("quality"):
            quality = handover.hand_over(glb, self._report, self._parameters.formats)
        self._show(studio, texture)
        facts = mesh_facts(shape)
        manifest = self._file("manifest.json")
        write_manifest(
            manifest,
            job=self._job,
            pipeline_version=self._version,
            parameters=self._parameters,
            given=given,
            subject=subject,
            mesh=facts,
            texture_side=shape.layout.side,
            glb=glb,
            quality=quality,
            seconds=self._meter.seconds,
        )
        self._report.artifact(ArtifactKind.MANIFEST, manifest, "application/json")
        self._report.progress(100, "previews", "Done")
        return {
            **{f"{stage}_seconds": value for stage, value in self._meter.seconds.items()},
            "total_seconds": sum(self._meter.seconds.values()),
            "vertices": float(facts["vertices"]),
            "faces": float(facts["faces"]),
            "glb_bytes": float(glb.stat().st_size),
            "peak_memory_bytes": float(self._meter.peak_bytes()),
        }

    def _see(self) -> tuple[Picture, Subject]:
        self._report.progress(1, "decode", "Reading the picture")
        with self._meter.stage("decode"):
            picture = decode(self._path, self._job.work_dir)
        self._report.progress(8, "cutout", "Finding the subject")
        with self._meter.stage("cutout"):
            subject = cut_out(
                picture.rgba,
                hints=self._parameters.hints,
                seed=self._parameters.seed,
                max_side=self._parameters.texture_resolution,
            )
        return picture, subject

    def _shape(self, subject: Subject) -> tuple[model.Shape, Studio]:
        self._report.progress(22, "geometry", "Inflating the outline")
        with self._meter.stage("geometry"):
            shape = model.make_shape(subject, self._parameters)
        self._report.progress(42, "previews", "First look")
        with self._meter.stage("previews"):
            studio = Studio(shape.mesh)
            path = self._file("preview_clay.png")
            previews.write_still(studio, clay(), path, previews.CLAY_AZIMUTH)
        self._report.artifact(_PREVIEW, path, "image/png")
        return shape, studio

    def _export(self, shape: model.Shape) -> tuple[Path, np.ndarray]:
        self._report.progress(48, "texture", "Painting the texture")
        with self._meter.stage("texture"):
            texture = model.make_texture(shape, self._parameters)
        self._report.progress(56, "export", "Writing the GLB")
        path = self._file("model.glb")
        with self._meter.stage("export"):
            gltf.write_glb(
                path,
                shape.mesh,
                gltf.Material(encode_jpeg(texture), "image/jpeg", model.ROUGHNESS),
                name="subject",
                extras={
                    "model": self._job.model_id,
                    "model_version": self._job.model_version,
                    "pipeline": f"inflate {self._version}",
                    "seed": self._parameters.seed,
                },
            )
        return path, texture

    def _show(self, studio: Studio, texture: np.ndarray) -> None:
        look = textured(texture, model.ROUGHNESS)
        for number, (name, azimuth) in enumerate(previews.STILLS.items()):
            self._report.progress(60 + 5 * number, "previews", f"Rendering the {name} view")
            path = self._file(f"preview_{name}.png")
            with self._meter.stage("previews"):
                previews.write_still(studio, look, path, azimuth)
            self._report.artifact(_PREVIEW, path, "image/png")
        path = self._file("turntable.webp")
        with self._meter.stage("previews"):
            previews.write_turntable(studio, look, path, self._tell_turn)
        self._report.artifact(_PREVIEW, path, "image/webp")

    def _tell_turn(self, share: float) -> None:
        self._report.progress(80 + 18 * share, "previews", "Rendering the turntable")

    def _file(self, name: str) -> Path:
        folder = self._job.work_dir / "output"
        folder.mkdir(exist_ok=True)
        return folder / name


def warm_up() -> None:
    """Load (or, the first time, compile) the kernels on a single triangle."""
    corners = np.array([[-0.5, -0.5, 0.0], [0.5, -0.5, 0.0], [0.0, 0.5, 0.1]], np.float32)
    normals = np.tile(np.array([0.0, 0.0, 1.0], np.float32), (3, 1))
    uvs = np.array([[0, 1], [1, 1], [0.5, 0]], np.float32)
    mesh = gltf.Mesh(corners, normals, uvs, np.array([[0, 1, 2]], np.uint32))
    Studio(mesh).render(clay(), azimuth=0.0, elevation=10.0, size=16)
    handover.warm_up()
