"""The pipeline class. It runs in the Python that `SF3D_PYTHON` names."""

import time
from collections.abc import Mapping
from typing import Any, ClassVar

from worker_vm.companion import Companion
from worker_vm.pipelines.base import Pipeline, PipelineError, Reporter, RunInput
from worker_vm.pipelines.sf3d.requirements import missing
from worker_vm.pipelines.sf3d.settings import Settings
from worker_vm.pipelines.sf3d.upstream import Upstream, save_mesh

_TEXTURES = (512, 1024, 2048)


class Sf3dPipeline(Pipeline):
    """Picture to textured GLB by Stable Fast 3D."""

    name: ClassVar[str] = "sf3d"
    version: ClassVar[str] = "1.0.0"
    # The model itself takes about a second and cannot be interrupted; loading it takes far longer.
    cancel_grace_seconds: ClassVar[float] = 5.0

    @classmethod
    def unavailable_reasons(cls) -> list[str]:
        """Say what is missing: licence, Python, packages, extensions, GPU, weights, hub token."""
        return missing(Settings.current())

    def setup(self) -> None:
        """Load the weights, and start the worker's own Python for what comes before and after.

        Raises:
            PipelineError: see docs/sf3d.md for the codes.
        """
        self._settings = Settings.current()
        self._upstream = Upstream(self._settings)
        self._companion = Companion("worker_vm.pipelines.sf3d.stages")

    def teardown(self) -> None:
        """End the helping process."""
        self._companion.close()

    def smaller_params(self, params: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The next smaller texture: baking it takes most of the memory."""
        wanted = params.get("texture_resolution", 1024)
        smaller = [size for size in _TEXTURES if size < wanted]
        return {**params, "texture_resolution": smaller[-1]} if smaller else None

    def run(self, job: RunInput, report: Reporter) -> dict[str, float]:
        """Make `model.glb`, the previews and `manifest.json`.

        Raises:
            PipelineError: see docs/sf3d.md for the codes.
        """
        if "image_path" not in job.inputs:
            raise PipelineError("INVALID_INPUT", "There is no picture.", permanent=True)
        about = {"work_dir": str(job.work_dir), "params": dict(job.params)}
        seen = self._companion.call(
            "prepare", {**about, "picture": str(job.inputs["image_path"])}, report
        )
        wanted = seen["parameters"]
        report.progress(20, "reconstruct", "Reconstructing the shape")
        started = time.perf_counter()
        self._upstream.reset_peak()
        mesh = self._upstream.reconstruct(
            job.work_dir / seen["cutout"]["name"],
            texture_resolution=wanted["texture_resolution"],
            remesh=wanted["remesh"],
            vertex_count=wanted["vertex_count"],
            seed=wanted["seed"],
        )
        saved = save_mesh(mesh, job.work_dir / "mesh")
        seconds = {**seen["seconds"], "reconstruct": time.perf_counter() - started}
        peak = self._upstream.peak_bytes()
        done = self._companion.call(
            "finish",
            {
                **about,
                "mesh": saved,
                "prepared": seen,
                "seconds": seconds,
                "upstream": {
                    **self._upstream.facts(),
                    "weights": self._settings.model_name,
                    "peak_device_memory_bytes": peak,
                },
                "model": job.model_id,
                "model_version": job.model_version,
                "pipeline_version": self.version,
            },
            report,
        )
        return {**done["metrics"], "peak_device_memory_bytes": float(peak)}
