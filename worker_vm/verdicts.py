"""What the end of a run means: from whatever happened to the report that the app gets."""

import math
import re
from collections.abc import Mapping
from pathlib import Path

from contract.attempts import (
    AttemptCancelled,
    AttemptFailed,
    AttemptReleased,
    FailureCode,
    FinishRequest,
    JobSpec,
)
from worker_vm.control import StopReason
from worker_vm.host_pool import PipelineUnavailableError
from worker_vm.host_process import HostCrashedError
from worker_vm.host_protocol import Ended
from worker_vm.logs import RunLog, get_logger, redact, storable
from worker_vm.pipelines.base import PipelineError

log = get_logger(__name__)

_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_CRASH_LINES = 3
_MESSAGE = 2000


class Verdicts:
    """Judges one run.

    Args:
        spec: the attempt.
        lines: the run's log; its last lines go with a failure.
        folder: the private folder, whose path nobody is told.
    """

    def __init__(self, spec: JobSpec, lines: RunLog, folder: Path) -> None:
        self._spec = spec
        self._lines = lines
        self._folder = folder

    def of_end(self, ended: Ended) -> FinishRequest:
        """What a pipeline's own end means, where it is no success."""
        if ended.outcome == "failed" and _CODE.fullmatch(ended.code):
            log.warning("run.failed", code=ended.code, permanent=ended.permanent)
            return self.failed(ended.code, ended.message, permanent=ended.permanent)
        if ended.outcome == "out_of_memory":
            log.error("run.out_of_memory", used_mib=ended.used_mib)
            return self.failed(
                FailureCode.OUT_OF_MEMORY,
                "The machine's memory was not enough, even with nothing else loaded. "
                "Ask for less (a lower resolution, say), or use a machine with more.",
                permanent=True,
            )
        log.error("run.crashed", kind=ended.kind, message=ended.message)
        return self.failed(
            FailureCode.PIPELINE_ERROR,
            f"The pipeline {self._spec.pipeline} stopped with an unexpected "
            f"{ended.kind or ended.outcome}; the run's log says where.",
            permanent=False,
        )

    def of_error(self, error: BaseException) -> FinishRequest:
        """What an exception on our side means."""
        if isinstance(error, PipelineUnavailableError):
            return AttemptReleased(reason=storable(" ".join(error.reasons))[:500])
        if isinstance(error, PipelineError) and _CODE.fullmatch(error.code):
            log.warning("run.failed", code=error.code, permanent=error.permanent)
            return self.failed(error.code, error.message, permanent=error.permanent)
        if isinstance(error, HostCrashedError):
            end = error.end
            log.error("run.crashed", end=end.describe(), peak_memory_mib=end.peak_memory_mib)
            said = " / ".join(end.last_lines[-_CRASH_LINES:])
            return self.failed(
                FailureCode.WORKER_CRASHED,
                f"The process of the pipeline {self._spec.pipeline} {end.describe()} "
                f"(peak memory {end.peak_memory_mib} MiB)"
                + (f"; its last words: {said}" if said else "."),
                permanent=False,
            )
        log.error("run.crashed", exc_info=error)
        return self.failed(
            FailureCode.PIPELINE_ERROR,
            f"The run stopped with an unexpected {type(error).__name__}; its log says where.",
            permanent=False,
        )

    def of_stop(self, reason: StopReason) -> FinishRequest | None:
        """What a stopped run means; None if there is nobody to report to."""
        match reason:
            case StopReason.CANCELLED:
                return AttemptCancelled()
            case StopReason.TIME_LIMIT:
                return self.failed(
                    FailureCode.TIME_LIMIT_EXCEEDED,
                    f"The run took longer than its limit of {self._spec.time_limit_seconds} s.",
                    permanent=True,
                )
            case StopReason.STOPPED:
                return AttemptReleased(reason="The run was stopped by a command to its worker.")
            case StopReason.SHUTDOWN:
                return AttemptReleased(reason="The worker had to stop before the run had ended.")
            case _:
                return None

    def failed(self, code: str, message: str, *, permanent: bool) -> AttemptFailed:
        """A failure's report, without paths or secrets."""
        text = storable(redact(message).replace(str(self._folder), "<work>"))[:_MESSAGE]
        return AttemptFailed(
            code=code, message=text, permanent=permanent, log_tail=self._lines.tail()
        )


def finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """Metrics that JSON can carry, at most as many as a report may hold."""
    numbers = {
        storable(str(name)): float(value)
        for name, value in metrics.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }
    return dict(list(numbers.items())[:100])
