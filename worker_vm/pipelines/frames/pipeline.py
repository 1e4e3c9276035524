"""The pipeline class; it stays light, and what is heavy is imported when it runs."""

from typing import ClassVar

from worker_vm.pipelines.base import Pipeline, PipelineError, Reporter, RunInput
from worker_vm.video.settings import unavailable_reasons


class FramesPipeline(Pipeline):
    """Video to a ZIP of frames. Everything that decodes runs in a confined child."""

    name: ClassVar[str] = "video-frames"
    version: ClassVar[str] = "1.0.0"
    cancel_grace_seconds: ClassVar[float] = 2.0
    ranged_inputs: ClassVar[frozenset[str]] = frozenset({"video_path"})

    @classmethod
    def unavailable_reasons(cls) -> list[str]:
        """Say which libraries are missing, or which setting is malformed; nothing is imported."""
        return unavailable_reasons()

    def run(self, job: RunInput, report: Reporter) -> dict[str, float]:
        """Make `frames.zip`, the previews and `manifest.json`.

        Raises:
            PipelineError: see docs/video-frames.md for the codes.
        """
        if "video_path" not in {*job.inputs, *job.ranged}:
            raise PipelineError("INVALID_INPUT", "There is no video.", permanent=True)
        from worker_vm.pipelines.frames.run import Run  # noqa: PLC0415

        return Run(job, report, self.version).execute()
