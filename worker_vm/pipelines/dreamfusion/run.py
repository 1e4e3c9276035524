"""One run of `dreamfusion`: distil, mesh, bake, show."""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from contract.kinds import ArtifactKind
from worker_vm import gltf
from worker_vm.meshes.handover import hand_over
from worker_vm.pipelines.base import Reporter, RunCancelledError, RunInput
from worker_vm.pipelines.dreamfusion import checkpoint, manifest
from worker_vm.pipelines.dreamfusion.baking import bake, encode_png
from worker_vm.pipelines.dreamfusion.distil import STAGES, Distillation
from worker_vm.pipelines.dreamfusion.guidance import ScoreDistillation
from worker_vm.pipelines.dreamfusion.live import LivePreviews
from worker_vm.pipelines.dreamfusion.meshing import extract
from worker_vm.pipelines.dreamfusion.parameters import Parameters
from worker_vm.pipelines.meter import Meter
from worker_vm.rendering import previews
from worker_vm.rendering.studio import Studio, clay, textured

ROUGHNESS = 0.7
_STEPS_PERCENT = (2.0, 86.0)
_PARTIAL_FROM = 0.05
"""Share of the steps before which there is nothing worth keeping."""
_PARTIAL_VERTICES = 8000
_PARTIAL_TEXTURE = 512


class Run:
    """The stages of the loop, then mesh, texture and previews.

    Args:
        job: the attempt.
        report: hears of it.
        parameters: of the job, checked.
        guidance: made for the job's prompt.
        device: where the object lives.
        version: the pipeline's.
    """

    def __init__(
        self,
        job: RunInput,
        report: Reporter,
        *,
        parameters: Parameters,
        guidance: ScoreDistillation,
        device: torch.device,
        version: str,
    ) -> None:
        self._job = job
        self._report = report
        self._parameters = parameters
        self._guidance = guidance.describe()
        self._version = version
        self._device = device
        self._meter = Meter()
        self._distillation = Distillation(parameters, guidance, device)
        self._mark = checkpoint.fingerprint(parameters, job.prompt or "", self._guidance, version)
        self._resumed_from = 0
        self._folder = job.work_dir / "output"
        self._folder.mkdir(exist_ok=True)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def execute(self) -> dict[str, float]:
        """Make everything and return the metrics; cancelled, keep the mesh so far.

        Raises:
            PipelineError: see docs/dreamfusion.md for the codes.
            RunCancelledError: passed through.
        """
        try:
            self._resume()
            self._distil()
            return self._finish()
        except RunCancelledError:
            # What was made of hours is worth a few seconds more.
            with contextlib.suppress(Exception):
                self._keep_partial()
            raise

    def _resume(self) -> None:
        path = self._job.checkpoint
        if path is None:
            return
        self._report.progress(1, "resume", "Reading the checkpoint")
        try:
            checkpoint.restore(path, self._distillation, self._mark, self._parameters.steps)
        except checkpoint.UnusableCheckpointError as error:
            print(f"The checkpoint is not used, the run starts anew: {error}.")  # noqa: T201
            return
        self._resumed_from = self._distillation.step
        print(f"Going on from step {self._resumed_from}.")  # noqa: T201

    def _distil(self) -> None:
        distillation, steps = self._distillation, self._parameters.steps
        live = LivePreviews(distillation, self._parameters.resolution, self._folder)
        low, high = _STEPS_PERCENT
        while not distillation.finished:
            stage = distillation.stage
            percent = low + (high - low) * distillation.done
            message = f"Step {distillation.step} of {steps}"
            self._report.progress(percent, stage.name, message)
            with self._meter.stage("optimise"):
                distillation.advance()
            self._save_checkpoint()
            with self._meter.stage("live_previews"):
                still = live.still()
            if still is not None:
                self._report.artifact(ArtifactKind.PREVIEW, still, "image/png")
            # The last stage ends with the mesh's turntable.
            if distillation.stage is not stage and stage is not STAGES[-1]:
                with self._meter.stage("live_previews"):
                    turn = live.turntable(stage.name)
                self._report.artifact(ArtifactKind.PREVIEW, turn, "image/webp")

    def _save_checkpoint(self) -> None:
        step, every = self._distillation.step, self._parameters.checkpoint_every
        if not every or step % every or self._distillation.finished:
            return
        path = self._folder / f"checkpoint_{step:06d}.safetensors"
        with self._meter.stage("checkpoints"):
            checkpoint.save(path, self._distillation, self._mark)
        self._report.artifact(ArtifactKind.CHECKPOINT, path, checkpoint.MEDIA_TYPE)

    def _finish(self) -> dict[str, float]:
        parameters = self._parameters
        self._report.progress(87, "mesh", "Closing the surface")
        glb, mesh, texture, facts = self._export(
            "model.glb", parameters.vertex_count, parameters.texture_resolution
        )
        self._report.progress(90, "quality", "Checking the result")
        with self._meter.stage("quality"):
            quality = hand_over(glb, self._report, parameters.formats)
        self._show(Studio(mesh), texture)
        self._hand_over_manifest(glb, facts, quality, partial=False)
        self._report.progress(100, "previews", "Done")
        return {
            **{f"{stage}_seconds": value for stage, value in self._meter.seconds.items()},
            "total_seconds": sum(self._meter.seconds.values()),
            "steps_per_second": self._steps_per_second(),
            "resumed_from_step": float(self._resumed_from),
            "vertices": float(facts["vertices"]),
            "faces": float(facts["faces"]),
            "glb_bytes": float(glb.stat().st_size),
            **{name: float(value) for name, value in self._memory().items()},
        }

    def _keep_partial(self) -> None:
        if self._distillation.done < _PARTIAL_FROM or (self._folder / "model.glb").exists():
            return
        glb, _, _, facts = self._export(
            "model_partial.glb",
            min(_PARTIAL_VERTICES, self._parameters.vertex_count),
            _PARTIAL_TEXTURE,
        )
        quality = hand_over(glb, self._report)
        self._hand_over_manifest(glb, facts, quality, partial=True)

    def _export(
        self, name: str, vertex_count: int, side: int
    ) -> tuple[Path, gltf.Mesh, NDArray[np.uint8], dict[str, Any]]:
        lattice = self._distillation.lattice()
        with self._meter.stage("mesh"):
            surface = extract(lattice, vertex_count)
        with self._meter.stage("texture"):
            mesh, texture, charts = bake(lattice, surface, side)
        path = self._folder / name
        with self._meter.stage("export"):
            gltf.write_glb(
                path,
                mesh,
                gltf.Material(encode_png(texture), "image/png", ROUGHNESS),
                name="subject",
                extras={
                    "model": self._job.model_id,
                    "model_version": self._job.model_version,
                    "pipeline": f"dreamfusion {self._version}",
                    "seed": self._parameters.seed,
                },
            )
        return path, mesh, texture, manifest.mesh_facts(surface, mesh, charts)

    def _show(self, studio: Studio, texture: NDArray[np.uint8]) -> None:
        look = textured(texture, ROUGHNESS)
        views = [(name, look, azimuth) for name, azimuth in previews.STILLS.items()]
        views.append(("clay", clay(), previews.CLAY_AZIMUTH))
        for number, (name, surface, azimuth) in enumerate(views):
            self._report.progress(91 + number, "previews", f"Rendering the {name} view")
            path = self._folder / f"preview_{name}.png"
            with self._meter.stage("previews"):
                previews.write_still(studio, surface, path, azimuth)
            self._report.artifact(ArtifactKind.PREVIEW, path, "image/png")
        path = self._folder / "turntable.webp"
        with self._meter.stage("previews"):
            previews.write_turntable(studio, look, path, self._tell_turn)
        self._report.artifact(ArtifactKind.PREVIEW, path, "image/webp")

    def _tell_turn(self, share: float) -> None:
        self._report.progress(96 + 3 * share, "previews", "Rendering the turntable")

    def _hand_over_manifest(
        self, glb: Path, facts: dict[str, Any], quality: dict[str, Any], *, partial: bool
    ) -> None:
        path = self._folder / "manifest.json"
        manifest.write_manifest(
            path,
            {
                "model": self._job.model_id,
                "model_version": self._job.model_version,
                "pipeline": "dreamfusion",
                "pipeline_version": self._version,
                "partial": partial,
                "prompt": self._job.prompt,
                "parameters": self._parameters.model_dump(mode="json"),
                "seed": self._parameters.seed,
                "guidance": self._guidance,
                "steps": self._distillation.step,
                "resumed_from_step": self._resumed_from,
                "steps_per_second": round(self._steps_per_second(), 4),
                **self._memory(),
                "device": self._device_name(),
                "mesh": facts,
                "glb": manifest.file_facts(glb),
                "quality": quality,
                "libraries": manifest.versions(),
                "seconds": {k: round(v, 4) for k, v in self._meter.seconds.items()},
            },
        )
        self._report.artifact(ArtifactKind.MANIFEST, path, "application/json")

    def _steps_per_second(self) -> float:
        seconds = self._meter.seconds.get("optimise", 0.0)
        taken = self._distillation.step - self._resumed_from
        return taken / seconds if seconds else 0.0

    def _memory(self) -> dict[str, int]:
        found = {"peak_memory_bytes": self._meter.peak_bytes()}
        if self._device.type == "cuda":
            found["peak_gpu_memory_bytes"] = int(torch.cuda.max_memory_allocated(self._device))
        return found

    def _device_name(self) -> str:
        if self._device.type == "cuda":
            return str(torch.cuda.get_device_name(self._device))
        return str(self._device.type)
