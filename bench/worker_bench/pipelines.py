"""Pipelines that do next to nothing, or nothing but what is to be measured."""

import itertools
import os
import time
from collections import deque
from typing import ClassVar

from bench.worker_bench.peers.clock import SOCKET_SETTING, tell
from contract.kinds import ArtifactKind
from worker_vm.pipelines.base import Pipeline, Reporter, RunInput

SETUP_SECONDS = 3.0


def plugins() -> str:
    """`WORKER_PIPELINES` for all of them."""
    kinds: list[type[_Bench]] = [NoOp, NoOpWithFile, NoOpAfterSetup, Spin]
    return " ".join(f"{kind.name}={__name__}:{kind.__name__}" for kind in kinds)


class _Bench(Pipeline):
    version: ClassVar[str] = "1"

    def _tell(self, job: RunInput) -> None:
        address = job.params.get("socket") or os.environ.get(SOCKET_SETTING)
        if address:
            tell(int(job.params.get("number", 0)), address)


class NoOp(_Bench):
    """Does nothing."""

    name: ClassVar[str] = "bench-no-op"

    def run(self, job: RunInput, report: Reporter) -> dict[str, float]:  # noqa: ARG002
        """Say that it runs."""
        self._tell(job)
        return {}


class NoOpWithFile(_Bench):
    """Makes the one file that a model must make."""

    name: ClassVar[str] = "bench-file"

    def run(self, job: RunInput, report: Reporter) -> dict[str, float]:
        """Say that it runs and write two bytes."""
        self._tell(job)
        path = job.work_dir / "nothing.json"
        path.write_bytes(b"{}")
        report.artifact(ArtifactKind.TELEMETRY, path, "application/json")
        return {}


class NoOpAfterSetup(NoOp):
    """Has something to load first."""

    name: ClassVar[str] = "bench-setup"

    def setup(self) -> None:
        """Load it."""
        time.sleep(SETUP_SECONDS)


class Spin(_Bench):
    """Never ends: a loop in C that holds the interpreter's lock, deaf to everything."""

    name: ClassVar[str] = "bench-spin"

    def run(self, job: RunInput, report: Reporter) -> dict[str, float]:  # noqa: ARG002
        """Spin until killed."""
        self._tell(job)
        deque(itertools.repeat(None), maxlen=0)
        raise AssertionError
