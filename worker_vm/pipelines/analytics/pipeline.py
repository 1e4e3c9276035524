"""The pipeline class; it stays light, and what is heavy is imported when it runs."""

from contextlib import suppress
from typing import ClassVar

from worker_vm.analytics.settings import read_settings, unavailable_reasons
from worker_vm.pipelines.base import Pipeline, PipelineError, Reporter, RunInput


class AnalyticsPipeline(Pipeline):
    """Video to what moves in it. Everything that decodes runs in a confined child."""

    name: ClassVar[str] = "video-analytics"
    version: ClassVar[str] = "1.0.0"
    cancel_grace_seconds: ClassVar[float] = 3.0
    ranged_inputs: ClassVar[frozenset[str]] = frozenset({"video_path"})

    @classmethod
    def unavailable_reasons(cls) -> list[str]:
        """Say which libraries are missing, or which setting is malformed; nothing is imported."""
        return unavailable_reasons()

    def setup(self) -> None:
        """Load the operator's network, if there is one."""
        from worker_vm.pipelines.analytics.toolbox import Toolbox  # noqa: PLC0415

        self._settings = read_settings()
        self._toolbox = Toolbox(self._settings)
        if self._settings.model_path is not None:
            # Jobs that need it say what is wrong with it; the others go on without.
            with suppress(PipelineError):
                self._toolbox.network()

    def run(self, job: RunInput, report: Reporter) -> dict[str, float]:
        """Make the annotated video, `analytics.json`, telemetry, previews and `manifest.json`.

        Raises:
            PipelineError: see docs/video-analytics.md for the codes.
        """
        if "video_path" not in {*job.inputs, *job.ranged}:
            raise PipelineError("INVALID_INPUT", "There is no video.", permanent=True)
        from worker_vm.pipelines.analytics.run import Run  # noqa: PLC0415

        return Run(job, report, self.version, self._toolbox, self._settings).execute()
