"""Functions that tests of the companion call."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from contract.kinds import ArtifactKind
from worker_vm.pipelines.base import PipelineError, Reporter

calls = 0


def tell(arguments: dict[str, Any], report: Reporter) -> dict[str, Any]:
    """Report a step, an event and a file; what was sent comes back, with who has answered."""
    global calls  # noqa: PLW0603  (what stays between two calls is what is tested)
    calls += 1
    print("a line for the log")  # noqa: T201
    report.progress(12.5, "stage", "Doing it")
    report.event("stage.seen", {"it": "ü"})
    report.artifact(ArtifactKind.PREVIEW, Path(arguments["file"]), "image/png")
    return {"sent": arguments, "calls": calls, "pid": os.getpid(), "python": sys.executable}


def refuse(arguments: dict[str, Any], report: Reporter) -> dict[str, Any]:
    """Fail as a pipeline does."""
    raise PipelineError("REFUSED", "It cannot be done.", permanent=arguments["permanent"])


def run_out(arguments: dict[str, Any], report: Reporter) -> dict[str, Any]:
    """Need more memory than there is."""
    raise MemoryError("no room")


def crash(arguments: dict[str, Any], report: Reporter) -> dict[str, Any]:
    """Fail as nobody expects."""
    raise KeyError("surprise")


def die(arguments: dict[str, Any], report: Reporter) -> dict[str, Any]:
    """End without a word."""
    os.kill(os.getpid(), signal.SIGKILL)
    return {}
