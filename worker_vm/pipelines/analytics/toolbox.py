"""What is loaded once and serves many runs: the operator's network, and the reader of texts."""

import os

from worker_vm.analytics.detector import Detector
from worker_vm.analytics.mock_detector import MockDetector
from worker_vm.analytics.motion import MotionDetector
from worker_vm.analytics.onnx_detector import Network, NetworkError, OnnxDetector
from worker_vm.analytics.settings import MODEL_SETTING, AnalyticsSettings
from worker_vm.analytics.text_reader import Engine, make_engine
from worker_vm.pipelines.analytics.parameters import Parameters
from worker_vm.pipelines.base import PipelineError

_UNSURE = 0.1
"""ByteTrack continues tracks by detections from this score on."""


class Toolbox:
    """Loads each of them when it is first asked for.

    Args:
        settings: of the operator.
    """

    def __init__(self, settings: AnalyticsSettings) -> None:
        self._settings = settings
        self._network: Network | None = None
        self._engine: Engine | None = None

    def detector(self, wanted: Parameters, confidence: float) -> Detector:
        """A detector for one video.

        Args:
            wanted: the job's parameters.
            confidence: from which on detections count.

        Raises:
            PipelineError: DETECTOR_UNAVAILABLE, permanent: this worker has no such network.
        """
        if wanted.mock_mode:
            return MockDetector(wanted.seed)
        if wanted.detector == "motion":
            return MotionDetector()
        unsure = min(_UNSURE, confidence)
        return OnnxDetector(self.network(), unsure if wanted.tracker == "bytetrack" else confidence)

    def network(self) -> Network:
        """The operator's network.

        Raises:
            PipelineError: DETECTOR_UNAVAILABLE, permanent: there is none, or it cannot be used.
        """
        path = self._settings.model_path
        if path is None:
            raise PipelineError(
                "DETECTOR_UNAVAILABLE",
                f"This worker has no network for the detector onnx ({MODEL_SETTING}). Use the"
                " detector motion, or ask the operator for one.",
                permanent=True,
            )
        if self._network is None:
            try:
                self._network = Network(path, threads())
            except NetworkError as error:
                raise PipelineError("DETECTOR_UNAVAILABLE", str(error), permanent=True) from error
        return self._network

    def reading_engine(self) -> Engine:
        """What reads texts."""
        if self._engine is None:
            self._engine = make_engine(threads())
        return self._engine


def threads() -> int:
    """How many threads anything here may use."""
    return max(int(os.environ.get("WORKER_THREADS", "1")), 1)
