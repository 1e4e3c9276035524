"""Running `sf3d` as a worker does, in some installation of Stable Fast 3D."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inflate_runs import Outcome, Recorder

from contract.kinds import ArtifactKind
from worker_vm.control import RunControl, StopReason
from worker_vm.host_pool import HostPool
from worker_vm.host_protocol import Ended, Run

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = ("SF3D_", "HF_", "HUGGING", "CUTOUT_", "STAND_IN_", "WORKER_")


def environment(**settings: str) -> dict[str, str]:
    """A worker's environment with no settings of Stable Fast 3D but these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)}
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "HF_HOME": "/nonexistent",
        "OMP_NUM_THREADS": "1",
        **settings,
    }


@dataclass
class Listener:
    """Hears what a run tells, and stops it in a stage if asked to."""

    recorder: Recorder
    control: RunControl
    stop_in: str | None
    restarts: list[str] = field(default_factory=list)

    def advanced(self, percent: float, stage: str, message: str | None) -> None:
        """Note a step."""
        self.recorder.progress(percent, stage, message)
        if stage == self.stop_in:
            self.control.stop(StopReason.CANCELLED)

    def produced(self, kind: str, path: Path, media_type: str) -> None:
        """Note a file."""
        self.recorder.artifact(ArtifactKind(kind), path, media_type)

    def restarted(self, reason: str) -> None:
        """Note that it begins again."""
        self.restarts.append(reason)

    def free_other_memory(self) -> None:
        """There is none."""


@dataclass
class Done:
    """How a run in a host ended."""

    ended: Ended
    outcome: Outcome
    restarts: list[str]


@dataclass
class Installation:
    """A worker's hosts, one of them with Stable Fast 3D."""

    pool: HostPool
    folder: Path

    def run(self, picture: bytes, *, stop_in: str | None = None, **parameters: Any) -> Done:
        """Run the pipeline on a picture's bytes."""
        work_dir = self.folder / uuid.uuid4().hex
        work_dir.mkdir()
        source = work_dir / "picture"
        source.write_bytes(picture)
        control = RunControl()
        listener = Listener(Recorder(), control, stop_in)
        ended = self.pool.run(
            Run(
                pipeline="sf3d",
                job_id=uuid.uuid4().hex,
                model_id="sf3d-v1",
                model_version="1.0.0",
                params={"image_path": "uploads/picture.png", **parameters},
                prompt=None,
                inputs={"image_path": str(source)},
                work_dir=str(work_dir),
            ),
            lambda _: listener,
            control,
        )
        return Done(ended, Outcome(listener.recorder, ended.metrics), listener.restarts)


@contextmanager
def installed(folder: Path, **settings: str) -> Iterator[Installation]:
    """A worker's hosts with some settings."""
    pool = HostPool(environment=environment(**settings))
    pool.await_started()
    try:
        yield Installation(pool, folder)
    finally:
        pool.stop()


def reasons(**settings: str) -> list[str]:
    """Why a worker with some settings cannot run the pipeline."""
    pool = HostPool(environment=environment(**settings))
    pool.await_started()
    try:
        (status,) = [status for status in pool.statuses() if status.name == "sf3d"]
    finally:
        pool.stop()
    assert status.runnable == (not status.reasons)
    return status.reasons
