"""A pipeline that does what its parameters say; for tests only."""

import logging
import os
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

from rq.timeouts import JobTimeoutException

from contract.artifacts import ArtifactKind
from worker_vm.pipelines.base import Pipeline, PipelineError, Reporter, RunInput

setups: list[int] = []
ODD = "\x00\udc80"
"""Characters that a database, or JSON itself, refuses; `$ODD` in parameters."""


class Scripted(Pipeline):
    """Steps through `params["do"]`, a list of [verb, argument] pairs."""

    name: ClassVar[str] = "scripted"
    version: ClassVar[str] = "1.2"

    def setup(self) -> None:
        """Count."""
        setups.append(os.getpid())

    def run(self, job: RunInput, report: Reporter) -> dict[str, float]:
        """Obey."""
        metrics: dict[str, float] = {}
        for verb, argument in job.params.get("do", []):
            getattr(self, f"_{verb}")(argument, job, report, metrics)
        return metrics

    def _progress(self, percent: float | str, _: RunInput, report: Reporter, __: Any) -> None:
        report.progress(float(percent), "stage", f"at {percent}")

    def _artifact(self, name: str, job: RunInput, report: Reporter, _: Any) -> None:
        path = job.work_dir / name
        path.write_bytes(f"content of {name}".encode())
        report.artifact(ArtifactKind.PREVIEW, path, "image/png")

    def _hand_over(self, name: str, job: RunInput, report: Reporter, _: Any) -> None:
        report.artifact(ArtifactKind.PREVIEW, job.work_dir / name, "image/png")

    def _empty(self, name: str, job: RunInput, _: Any, __: Any) -> None:
        (job.work_dir / name).touch()

    def _copy_input(self, parameter: str, job: RunInput, report: Reporter, _: Any) -> None:
        path = job.work_dir / "copy.bin"
        path.write_bytes(job.inputs[parameter].read_bytes())
        report.artifact(ArtifactKind.MODEL_3D, path, "model/gltf-binary")

    def _metric(self, pair: list[Any], _: Any, __: Any, metrics: dict[str, Any]) -> None:
        metrics[pair[0].replace("$ODD", ODD)] = float(pair[1])

    def _log(self, text: str, *_: Any) -> None:
        logging.getLogger("pipeline").info("%s", text)

    def _fail(self, arguments: list[Any], *_: Any) -> None:
        raise PipelineError(arguments[0], arguments[1].replace("$ODD", ODD), permanent=arguments[2])

    def _log_and_crash(self, text: str, *_: Any) -> None:
        logging.getLogger("pipeline").warning("%s", text.replace("$ODD", ODD))
        raise ValueError(text.replace("$ODD", ODD))

    def _time_out(self, *_: Any) -> None:
        raise JobTimeoutException

    def _progress_text(self, text: str, _: Any, report: Reporter, __: Any) -> None:
        report.progress(1, text.replace("$ODD", ODD), text.replace("$ODD", ODD))

    def _crash(self, text: str, job: RunInput, *_: Any) -> None:
        raise ZeroDivisionError(text.replace("$WORK", str(job.work_dir)))

    def _exhaust_memory(self, *_: Any) -> None:
        raise MemoryError

    def _exit(self, status: int, *_: Any) -> None:
        sys.exit(status)

    def _work(self, seconds: float, _: Any, report: Reporter, __: Any) -> None:
        """Report progress until told to stop, or for so long."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            report.progress(50, "work")
            time.sleep(0.02)

    def _wait_for(self, path: str, _: Any, report: Reporter, __: Any) -> None:
        """Report progress until a file exists."""
        while not Path(path).exists():
            report.progress(50, "wait")
            time.sleep(0.02)

    def _ignore_all(self, seconds: float, *_: Any) -> None:
        """Be deaf for so long."""
        time.sleep(seconds)

    def _touch(self, path: str, *_: Any) -> None:
        Path(path).touch()


class Unavailable(Scripted):
    """A pipeline that this machine can't run."""

    name: ClassVar[str] = "unavailable"

    @classmethod
    def unavailable_reasons(cls) -> list[str]:
        """Always the same."""
        return ["There is no GPU.", "Weights are missing."]
