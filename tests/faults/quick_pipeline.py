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
    `params["poison"]` the run kills the process that it runs in; with `params["streamed"]` the GLB
    is sent while it is made: all but its last byte in the first half of the time.
    """

    name: ClassVar[str] = "quick"
    version: ClassVar[str] = "1"

    def run(self, job: RunInput, report: Reporter) -> dict[str, float]:
        """See the class."""
        if job.params.get("poison"):
            os.kill(os.getpid(), signal.SIGKILL)
        self._started = time.monotonic()
        glb = self._glb(job)
        seconds = float(job.params.get("seconds", 0))
        if job.params.get("streamed"):
            self._stream(glb, seconds, report)
        else:
            self._work(0, seconds, report)
            path = job.work_dir / "model.glb"
            path.write_bytes(glb)
            report.artifact(ArtifactKind.MODEL_3D, path, "model/gltf-binary")
        return {"seconds": time.monotonic() - self._started}

    def _glb(self, job: RunInput) -> bytes:
        picture = job.inputs.get("picture")
        told = b"" if picture is None else hashlib.sha256(picture.read_bytes()).digest()
        noise = told + os.urandom(int(job.params.get("noise_bytes", 2000)))
        return b"glTF" + (2).to_bytes(4, "little") + (12 + len(noise)).to_bytes(4, "little") + noise

    def _stream(self, glb: bytes, seconds: float, report: Reporter) -> None:
        stream = report.stream(ArtifactKind.MODEL_3D, "model.glb", "model/gltf-binary")
        stream.write(glb[:-1])
        self._work(0.5, seconds, report)
        stream.write(glb[-1:])
        stream.finish()

    def _work(self, share: float, seconds: float, report: Reporter) -> None:
        """Work for so long since the beginning; how much of it is done already is a claim."""
        while (passed := time.monotonic() - self._started) < seconds:
            report.progress(100 * max(share, passed / seconds), "working")
            time.sleep(0.05)
