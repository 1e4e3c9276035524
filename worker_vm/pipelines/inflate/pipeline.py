"""The pipeline class; it stays light, and what is heavy is imported when it runs."""

import os
from importlib.util import find_spec
from typing import ClassVar

from worker_vm.pipelines.base import Pipeline, PipelineError, Reporter, RunInput

_NEEDED = {
    "cv2": "opencv-python-headless",
    "manifold3d": "manifold3d",
    "numba": "numba",
    "numpy": "numpy",
    "PIL": "pillow",
    "scipy": "scipy",
    "skimage": "scikit-image",
    "trimesh": "trimesh",
}


class InflatePipeline(Pipeline):
    """Picture to textured, watertight GLB, by inflating the subject's silhouette."""

    name: ClassVar[str] = "inflate"
    version: ClassVar[str] = "1.3.0"

    @classmethod
    def unavailable_reasons(cls) -> list[str]:
        """Say which libraries are missing; nothing is imported."""
        return [
            f"The Python package '{package}' is not installed."
            for module, package in _NEEDED.items()
            if find_spec(module) is None
        ]

    def setup(self) -> None:
        """Import the libraries and compile or load the renderer's kernels."""
        import cv2  # noqa: PLC0415

        cv2.setNumThreads(int(os.environ.get("WORKER_THREADS", "1")))
        from worker_vm.pipelines.inflate.run import warm_up  # noqa: PLC0415

        warm_up()

    def run(self, job: RunInput, report: Reporter) -> dict[str, float]:
        """Make `model.glb`, the previews and `manifest.json`.

        Raises:
            PipelineError: see docs/inflate.md for the codes.
        """
        if "image_path" not in job.inputs:
            raise PipelineError("INVALID_INPUT", "There is no picture.", permanent=True)
        from worker_vm.pipelines.inflate.run import Run  # noqa: PLC0415

        return Run(job, report, self.version).execute()
