"""A pipeline that leaves checkpoints on its way and goes on from one; for tests only."""

import json
import os
import time
from typing import ClassVar

from contract.kinds import ArtifactKind
from worker_vm.pipelines.base import Pipeline, Reporter, RunCancelledError, RunInput


class Stepwise(Pipeline):
    """Walks to 100 % in steps of 20; without a checkpoint it stays at `params["hold_at"]`.

    Each step is an event. Its manifest says where it began; a cancelled run hands over what it
    has. With `params["noise"]` no two results are equal.
    """

    name: ClassVar[str] = "stepwise"
    version: ClassVar[str] = "1"
    cancel_grace_seconds: ClassVar[float] = 20

    def run(self, job: RunInput, report: Reporter) -> dict[str, float]:
        """See the class."""
        began_at = int(job.checkpoint.read_text()) if job.checkpoint else 0
        percent = began_at
        try:
            while percent < 100:
                percent += 20
                report.progress(percent, "walk")
                report.event("walk.step", {"percent": percent})
                checkpoint = job.work_dir / f"checkpoint-{percent}.bin"
                checkpoint.write_text(str(percent))
                report.artifact(ArtifactKind.CHECKPOINT, checkpoint, "application/octet-stream")
                while not began_at and percent == job.params.get("hold_at"):
                    report.progress(percent, "hold")
                    time.sleep(0.05)
        except RunCancelledError:
            self._hand_over(job, report, began_at, percent)
            raise
        self._hand_over(job, report, began_at, percent)
        return {"percent": percent}

    def _hand_over(self, job: RunInput, report: Reporter, began_at: int, percent: int) -> None:
        entropy = os.urandom(8).hex() if job.params.get("noise") else ""
        noise = f"walked from {began_at} to {percent} {entropy}".encode()
        model = job.work_dir / "model.glb"
        size = 12 + len(noise)
        model.write_bytes(b"glTF" + (2).to_bytes(4, "little") + size.to_bytes(4, "little") + noise)
        report.artifact(ArtifactKind.MODEL_3D, model, "model/gltf-binary")
        manifest = job.work_dir / "manifest.json"
        manifest.write_text(
            json.dumps({"began_at": began_at, "percent": percent, "input": {"entropy": entropy}})
        )
        report.artifact(ArtifactKind.MANIFEST, manifest, "application/json")
