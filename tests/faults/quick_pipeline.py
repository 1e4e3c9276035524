"""A pipeline of a moment's work whose file differs with every run; for tests of faults only."""

import hashlib
import os
import signal
import time
from typing import ClassVar

from contract.kinds import ArtifactKind
from worker_vm.pipelines.base import Pipeline, Reporter, RunInput


class Quick(Pipeline):
    """Works for `params["seconds"]` and hands over a GLB that no other run makes.

    It begins, after the header, with the SHA-256 of the picture that it was given. With
    `params["poison"]` the run kills the process that it runs in.
    """

    name: ClassVar[str] = "quick"
    version: ClassVar[str] = "1"

    def run(self, job: RunInput, report: Reporter) -> dict[str, float]:
        """See the class."""
        if job.params.get("poison"):
            os.kill(os.getpid(), signal.SIGKILL)
        started = time.monotonic()
        seconds = float(job.params.get("seconds", 0))
        while (passed := time.monotonic() - started) < seconds:
            report.progress(100 * passed / seconds, "working")
            time.sleep(0.05)
        picture = job.inputs.get("picture")
        told = b"" if picture is None else hashlib.sha256(picture.read_bytes()).digest()
        noise = told + os.urandom(int(job.params.get("noise_bytes", 2000)))
        glb = b"glTF" + (2).to_bytes(4, "little") + (12 + len(noise)).to_bytes(4, "little") + noise
        path = job.work_dir / "model.glb"
        path.write_bytes(glb)
        report.artifact(ArtifactKind.MODEL_3D, path, "model/gltf-binary")
        return {"seconds": time.monotonic() - started}
