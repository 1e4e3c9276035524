"""A pipeline that does what its parameters say; for tests only.

It runs in pipeline hosts of any Python: standard library and the pipeline interface only.
"""

import ctypes
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from contract.kinds import ArtifactKind
from worker_vm.host_protocol import Streamed, Streaming
from worker_vm.pipelines.base import (
    ArtifactStream,
    Pipeline,
    PipelineError,
    Reporter,
    RunCancelledError,
    RunInput,
)
from worker_vm.range_protocol import RangeReader

ODD = "\x00\udc80"
"""Characters that a database, or JSON itself, refuses; `$ODD` in parameters."""

_MIB = 1 << 20
_counts = {"setups": 0, "runs": 0}
_leaked: list[bytearray] = []


def _channel() -> int:
    """The descriptor by which the host speaks to its worker."""
    return int(sys.argv[1])


class Scripted(Pipeline):
    """Steps through `params["do"]`, a list of [verb, argument] pairs."""

    name: ClassVar[str] = "scripted"
    version: ClassVar[str] = "1.2"

    def setup(self) -> None:
        """Count, and take as much memory as the environment says."""
        _counts["setups"] += 1
        self.weights = bytearray(b"w" * int(os.environ.get("SCRIPTED_MIB", "0")) * _MIB)

    def smaller_params(self, params: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """What the parameters themselves say."""
        return params.get("smaller")

    def run(self, job: RunInput, report: Reporter) -> dict[str, float]:
        """Obey."""
        _counts["runs"] += 1
        metrics: dict[str, float] = {}
        for verb, argument in job.params.get("do", []):
            getattr(self, f"_{verb}")(argument, job, report, metrics)
        return metrics

    # --- what a run tells ------------------------------------------------------------------------

    def _progress(self, percent: float | str, _: RunInput, report: Reporter, __: Any) -> None:
        report.progress(float(percent), "stage", f"at {percent}")

    def _progress_text(self, text: str, _: Any, report: Reporter, __: Any) -> None:
        report.progress(1, text.replace("$ODD", ODD), text.replace("$ODD", ODD))

    def _event(self, pair: list[Any], _: Any, report: Reporter, __: Any) -> None:
        report.event(pair[0], pair[1])

    def _events(self, count: int, _: Any, report: Reporter, __: Any) -> None:
        """Tell so many at once."""
        for number in range(count):
            report.event("track.start", {"track_id": number})

    def _event_at(self, time_s: str, _: Any, report: Reporter, __: Any) -> None:
        """Tell of a moment that may be no number."""
        report.event("zone.enter", {"time_s": float(time_s)})

    def _artifact(self, name: str, job: RunInput, report: Reporter, _: Any) -> None:
        path = job.work_dir / name
        path.write_bytes(f"content of {name}".encode())
        report.artifact(ArtifactKind.PREVIEW, path, "image/png")

    def _checkpoint(self, name: str, job: RunInput, report: Reporter, _: Any) -> None:
        path = job.work_dir / name
        path.write_bytes(f"content of {name}".encode())
        report.artifact(ArtifactKind.CHECKPOINT, path, "application/octet-stream")

    def _model(self, name: str, job: RunInput, report: Reporter, _: Any) -> None:
        path = job.work_dir / name
        path.write_bytes(f"content of {name}".encode())
        report.artifact(ArtifactKind.MODEL_3D, path, "model/gltf-binary")

    def _hand_over(self, name: str, job: RunInput, report: Reporter, _: Any) -> None:
        report.artifact(ArtifactKind.PREVIEW, job.work_dir / name, "image/png")

    def _hand_over_link(self, target: str, job: RunInput, report: Reporter, _: Any) -> None:
        link = job.work_dir / "link.png"
        link.symlink_to(target)
        report.artifact(ArtifactKind.PREVIEW, link, "image/png")

    def _hand_over_relative(self, name: str, job: RunInput, report: Reporter, _: Any) -> None:
        os.chdir(job.work_dir)
        Path(name).write_bytes(b"here")
        report.artifact(ArtifactKind.PREVIEW, Path(name), "image/png")
        os.chdir("/")

    def _empty(self, name: str, job: RunInput, _: Any, __: Any) -> None:
        (job.work_dir / name).touch()

    def _copy_input(self, parameter: str, job: RunInput, report: Reporter, _: Any) -> None:
        path = job.work_dir / "copy.bin"
        path.write_bytes(job.inputs[parameter].read_bytes())
        report.artifact(ArtifactKind.MODEL_3D, path, "model/gltf-binary")

    def _stream(self, arguments: list[Any], _: Any, report: Reporter, __: Any) -> None:
        """Stream so many bytes, which are all alike but for the last."""
        name, size = arguments
        stream = report.stream(ArtifactKind.FRAMES_ZIP, name, "application/zip")
        _write_streamed(stream, size)
        stream.finish()

    def _stream_unfinished(self, arguments: list[Any], _: Any, report: Reporter, __: Any) -> None:
        """Begin to stream, and leave it at that."""
        name, size = arguments
        stream = report.stream(ArtifactKind.FRAMES_ZIP, name, "application/zip")
        _write_streamed(stream, size)

    def _stream_as(self, arguments: list[Any], _: Any, report: Reporter, __: Any) -> None:
        """Stream something of any kind, name and type."""
        stream = report.stream(*arguments)
        stream.write(b"content")
        stream.finish()

    def _claim_streamed(self, arguments: list[Any], _: Any, report: Any, __: Any) -> None:
        """Say that a file has come, whatever has."""
        report._channel.send(Streamed(*arguments))

    def _claim_streaming(self, name: str, _: Any, report: Any, __: Any) -> None:
        """Say that a file comes, without the pipe."""
        report._channel.send(Streaming("frames_zip", name, "application/zip"))
        time.sleep(60)

    def _stream_from(self, arguments: list[Any], _: Any, report: Any, __: Any) -> None:
        """Say that a file comes, send bytes, and never close the end that they are written to."""
        name, kind, size = arguments
        pair = socket.socketpair() if kind == "socket" else None
        theirs, ours = os.pipe() if pair is None else (end.detach() for end in pair)
        report._channel.send(Streaming("frames_zip", name, "application/zip"), [theirs])
        os.write(ours, bytes(size))
        time.sleep(0.3)
        report._channel.send(Streamed(name, size))

    def _digest_ranged(self, parameter: str, job: RunInput, report: Reporter, _: Any) -> None:
        """Read an input by ranges, back and forth; hand over the SHA-256 of what came."""
        given = job.ranged[parameter]
        reader = RangeReader(given.descriptor, given.size_bytes)
        reader.seek(-1, os.SEEK_END)
        last = reader.read(10)
        reader.seek(0)
        digest = hashlib.sha256()
        while data := reader.read(300_000):
            digest.update(data)
            report.progress(50, "read")
        reader.close()
        assert len(last) == 1
        path = job.work_dir / "digest.txt"
        path.write_text(digest.hexdigest())
        report.artifact(ArtifactKind.LOG, path, "text/plain")

    def _tell_job(self, name: str, job: RunInput, report: Reporter, _: Any) -> None:
        """Hand over what the run was asked for, and the names in its environment."""
        path = job.work_dir / name
        told = {
            "params": dict(job.params),
            "reduced_from": None if job.reduced_from is None else dict(job.reduced_from),
            "environment": sorted(os.environ),
            "checkpoint": None if job.checkpoint is None else job.checkpoint.read_text(),
            "python": sys.executable,
            "modules": sorted(sys.modules),
        }
        path.write_text(json.dumps(told))
        report.artifact(ArtifactKind.MANIFEST, path, "application/json")

    def _manifest(self, text: str, job: RunInput, report: Reporter, _: Any) -> None:
        """Hand over a manifest of any content."""
        path = job.work_dir / "manifest.json"
        path.write_text(text)
        report.artifact(ArtifactKind.MANIFEST, path, "application/json")

    def _metric(self, pair: list[Any], _: Any, __: Any, metrics: dict[str, Any]) -> None:
        metrics[pair[0].replace("$ODD", ODD)] = float(pair[1])

    def _count(self, _: Any, __: Any, ___: Any, metrics: dict[str, Any]) -> None:
        """Tell which process this is, and what it has done so far."""
        metrics |= {"pid": os.getpid(), **_counts}

    def _say(self, text: str, *_: Any) -> None:
        print(text)  # noqa: T201
        print(f"aside: {text}", file=sys.stderr)  # noqa: T201

    # --- how a run ends --------------------------------------------------------------------------

    def _fail(self, arguments: list[Any], *_: Any) -> None:
        raise PipelineError(arguments[0], arguments[1].replace("$ODD", ODD), permanent=arguments[2])

    def _log_and_crash(self, text: str, *_: Any) -> None:
        print(text.replace("$ODD", ODD), file=sys.stderr)  # noqa: T201
        raise ValueError(text.replace("$ODD", ODD))

    def _crash(self, text: str, job: RunInput, *_: Any) -> None:
        raise ZeroDivisionError(text.replace("$WORK", str(job.work_dir)))

    def _break_device(self, text: str, *_: Any) -> None:
        raise RuntimeError(f"CUDA error: {text}")

    def _exhaust_memory(self, tries: int, job: RunInput, *_: Any) -> None:
        """Have too little memory in the first so many tries of the run."""
        if int(job.work_dir.name) <= tries:
            raise MemoryError

    def _leak(self, mib: int, *_: Any) -> None:
        _leaked.append(bytearray(b"l" * mib * _MIB))

    def _exit(self, status: int, *_: Any) -> None:
        sys.exit(status)

    def _exit_at_once(self, status: int, *_: Any) -> None:
        os._exit(status)

    def _segfault(self, *_: Any) -> None:
        ctypes.string_at(0)

    def _kill_itself(self, *_: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def _babble(self, *_: Any) -> None:
        os.write(_channel(), b"\xff garbage " * 100)
        time.sleep(60)

    def _babble_json(self, text: str, *_: Any) -> None:
        """Send a message of the right form with anything in it."""
        os.write(_channel(), len(text).to_bytes(4, "big") + text.encode())
        time.sleep(60)

    def _hang_up(self, *_: Any) -> None:
        """Say that nothing more will be said, and live on."""
        with socket.socket(fileno=os.dup(_channel())) as connection:
            connection.shutdown(socket.SHUT_WR)
        time.sleep(600)

    # --- how long a run takes --------------------------------------------------------------------

    def _work(self, seconds: float, _: Any, report: Reporter, __: Any) -> None:
        """Report progress until told to stop, or for so long."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            report.progress(50, "work")
            time.sleep(0.02)

    def _work_then(self, steps: list[Any], job: RunInput, report: Reporter, metrics: Any) -> None:
        """Report progress until told to stop, obey once more, and end as told."""
        try:
            self._work(60, job, report, metrics)
        except RunCancelledError:
            for verb, argument in steps:
                getattr(self, f"_{verb}")(argument, job, report, metrics)
            raise

    def _wait_for(self, path: str, _: Any, report: Reporter, __: Any) -> None:
        """Report progress until a file exists."""
        while not Path(path).exists():
            report.progress(50, "wait")
            time.sleep(0.02)

    def _ignore_all(self, seconds: float, *_: Any) -> None:
        """Be deaf for so long."""
        time.sleep(seconds)

    def _hold_gil(self, seconds: int, *_: Any) -> None:
        """Be in C for so long, where no other thread of this process runs."""
        ctypes.PyDLL(None).sleep(seconds)

    def _touch(self, path: str, *_: Any) -> None:
        Path(path).touch()

    def _start_child(self, arguments: list[Any], *_: Any) -> None:
        """Start a process that keeps our output open; its id goes to a file."""
        path, own_session = arguments
        child = subprocess.Popen(["sleep", "300"], start_new_session=own_session)
        partial = Path(f"{path}.part")
        partial.write_text(str(child.pid))
        partial.rename(path)

    def _start_daemon(self, path: str, *_: Any) -> None:
        """Start a process in a session of its own whose parent ends; its id goes to a file."""
        script = f"setsid sleep 300 & echo $! > {path}.part; mv {path}.part {path}"
        subprocess.run(["sh", "-c", script], check=True)

    def _start_orphan(self, *_: Any) -> None:
        """Start a process that ends after its parent."""
        subprocess.run(["sh", "-c", "setsid sleep 0.05 &"], check=True)


def _write_streamed(stream: ArtifactStream, size: int) -> None:
    for start in range(0, size, 1 << 20):
        stream.write(bytes(min(1 << 20, size - start)))


class Ranged(Scripted):
    """A pipeline that reads its input by ranges."""

    name: ClassVar[str] = "ranged"
    ranged_inputs: ClassVar[frozenset[str]] = frozenset({"video_path"})


class Thorough(Scripted):
    """A pipeline that takes its time when it is cancelled."""

    name: ClassVar[str] = "thorough"
    cancel_grace_seconds: ClassVar[float] = 20


class Unavailable(Scripted):
    """A pipeline that this machine can't run."""

    name: ClassVar[str] = "unavailable"

    @classmethod
    def unavailable_reasons(cls) -> list[str]:
        """Always the same."""
        return ["There is no GPU.", "Weights are missing."]


class Careless(Scripted):
    """A pipeline that does not keep to the interface."""

    version: ClassVar[Any] = 20261120.5
    cancel_grace_seconds: ClassVar[Any] = "soon"

    @classmethod
    def unavailable_reasons(cls) -> Any:
        """No list."""
        return None
