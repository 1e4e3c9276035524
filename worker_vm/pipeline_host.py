"""The pipeline host: a process that keeps pipelines loaded and runs them, one run at a time.

`python -m worker_vm.pipeline_host FD PID` is started by the worker (`host_process`). It knows no
queue, no API and no key: it gets parameters and paths, and answers with progress and finished
files. It imports nothing but the standard library and the pipelines themselves.
"""

import contextlib
import ctypes
import gc
import os
import platform
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from uuid import UUID

from contract.kinds import ArtifactKind
from worker_vm.host_protocol import (
    Advanced,
    Cancel,
    Channel,
    Command,
    Ended,
    Loaded,
    MemoryFreed,
    MemoryNeeded,
    PipelineReport,
    Prepare,
    Produced,
    Ready,
    Reduced,
    Run,
)
from worker_vm.pipelines import registry
from worker_vm.pipelines.base import Pipeline, PipelineError, RunCancelledError, RunInput

_PR_SET_PDEATHSIG = 1
_MIB = 1 << 20


def _setting(name: str, default: int) -> int:
    return int(os.environ.get(name) or default)


class _Report:
    """A run's `Reporter`: passes on what the pipeline says, and stops it when asked to."""

    def __init__(self, channel: Channel, cancelled: threading.Event) -> None:
        self._channel = channel
        self._cancelled = cancelled

    def progress(self, percent: float, stage: str, message: str | None = None) -> None:
        self._check()
        self._channel.send(Advanced(float(percent), str(stage), message))

    def artifact(self, kind: ArtifactKind, path: Path, media_type: str) -> None:
        self._check()
        # The worker may be in another folder.
        self._channel.send(Produced(str(kind), str(Path(path).absolute()), str(media_type)))

    def _check(self) -> None:
        if self._cancelled.is_set():
            raise RunCancelledError


class _Shelf:
    """Loaded pipelines, the one used last at the end; the first to go stands at the front."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._loaded: OrderedDict[str, Pipeline] = OrderedDict()

    def get(self, name: str) -> Pipeline:
        """A pipeline after its `setup()`; what was used least recently makes room for it."""
        if name not in self._loaded:
            while self._loaded and used_memory_mib() > _budget_mib():
                self._drop(next(iter(self._loaded)))
            pipeline = registry.load_pipeline(name)()
            started = time.monotonic()
            try:
                pipeline.setup()
            except BaseException as error:
                if not (is_out_of_memory(error) and self._loaded):
                    raise
                self.drop_all_but(None)
                pipeline.setup()
            self._loaded[name] = pipeline
            _settle()
            _say(f"{name} is set up after {time.monotonic() - started:.2f} s")
            while len(self._loaded) > 1 and used_memory_mib() > _budget_mib():
                self._drop(next(iter(self._loaded)))
            self._tell()
        self._loaded.move_to_end(name)
        return self._loaded[name]

    def drop_all_but(self, name: str | None) -> None:
        """Give back the memory of every other pipeline."""
        for other in [loaded for loaded in self._loaded if loaded != name]:
            self._drop(other)
        free_caches()

    def _drop(self, name: str) -> None:
        pipeline = self._loaded.pop(name)
        with contextlib.suppress(Exception):
            pipeline.teardown()
        del pipeline
        gc.unfreeze()
        free_caches()
        _settle()
        _say(f"{name} was dropped to make room")
        self._tell()

    def _tell(self) -> None:
        self._channel.send(Loaded(list(self._loaded)))


class PipelineHost:
    """Obeys the worker at the other end of a channel until that is gone."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._shelf = _Shelf(channel)
        self._commands: SimpleQueue[Command | None] = SimpleQueue()
        self._cancelled = threading.Event()
        self._memory_freed = threading.Event()
        self._runs = 0
        self._used_at_first_mib: int | None = None

    def serve(self) -> None:
        """Say what can be run, then obey."""
        self._channel.send(Ready(platform.python_version(), [*map(_report_on, _our_pipelines())]))
        threading.Thread(target=self._listen, daemon=True).start()
        while (command := self._commands.get()) is not None:
            if isinstance(command, Prepare):
                self._prepare(command.pipeline)
            elif isinstance(command, Run):
                self._channel.send(self._run(command))

    def _listen(self) -> None:
        """Take commands while a run goes on; without a worker there is nothing left to do."""
        with contextlib.suppress(OSError):
            while (message := self._channel.receive()) is not None:
                if isinstance(message, Cancel):
                    self._cancelled.set()
                elif isinstance(message, MemoryFreed):
                    self._memory_freed.set()
                elif isinstance(message, Prepare | Run):
                    if isinstance(message, Run):
                        # A stop that came too late for the last run is not for this one.
                        self._cancelled.clear()
                    self._commands.put(message)
        os._exit(0)

    def _prepare(self, pipeline: str) -> None:
        """Load a pipeline; if that fails, its first run will say so."""
        try:
            self._shelf.get(pipeline)
        except Exception:  # noqa: BLE001  (whatever a pipeline raises)
            traceback.print_exc()

    def _run(self, command: Run) -> Ended:
        recycle = None
        try:
            ended = Ended("succeeded", metrics=_numbers(self._run_with_less_memory(command)))
        except RunCancelledError:
            ended = Ended("cancelled")
        except PipelineError as error:
            ended = Ended(
                "failed", code=error.code, message=error.message, permanent=error.permanent
            )
        except BaseException as error:  # noqa: BLE001  (whatever a pipeline raises)
            traceback.print_exc()
            outcome = "out_of_memory" if is_out_of_memory(error) else "crashed"
            ended = Ended(outcome, kind=type(error).__name__, message=str(error))
            if _is_device_error(error):
                recycle = "the device reported an error"
        free_caches()
        return Ended(
            **{
                **ended.__dict__,
                "number": command.number,
                "used_mib": used_memory_mib(),
                "recycle": recycle or self._reason_to_recycle(),
            }
        )

    def _run_with_less_memory(self, command: Run) -> Mapping[str, float]:
        """Run; out of memory, run again with nothing else loaded; then with smaller settings."""
        try:
            return self._run_once(command, 1)
        except BaseException as error:
            if not is_out_of_memory(error):
                raise
        # Outside the handler, where the traceback keeps no tensors alive.
        self._shelf.drop_all_but(command.pipeline)
        self._memory_freed.clear()
        self._channel.send(MemoryNeeded(used_memory_mib()))
        self._memory_freed.wait()
        try:
            return self._run_once(command, 2)
        except BaseException as error:
            smaller = None
            if is_out_of_memory(error):
                smaller = self._shelf.get(command.pipeline).smaller_params(command.params)
            if smaller is None:
                raise
        free_caches()
        self._channel.send(Reduced(dict(smaller)))
        return self._run_once(command, 3, smaller)

    def _run_once(
        self, command: Run, number: int, smaller: Mapping[str, Any] | None = None
    ) -> Mapping[str, float]:
        pipeline = self._shelf.get(command.pipeline)
        # A folder for each try: files handed over by an earlier one may still be uploading.
        work_dir = Path(command.work_dir) / str(number)
        work_dir.mkdir()
        return pipeline.run(
            RunInput(
                job_id=UUID(command.job_id),
                model_id=command.model_id,
                model_version=command.model_version,
                params=command.params if smaller is None else smaller,
                prompt=command.prompt,
                inputs={name: Path(path) for name, path in command.inputs.items()},
                work_dir=work_dir,
                reduced_from=None if smaller is None else command.params,
            ),
            _Report(self._channel, self._cancelled),
        )

    def _reason_to_recycle(self) -> str | None:
        self._runs += 1
        used = _resident_mib()
        if self._used_at_first_mib is None:
            self._used_at_first_mib = used
        most_runs = _setting("WORKER_RECYCLE_RUNS", 0)
        most_drift = _setting("WORKER_RECYCLE_DRIFT_MIB", 4096)
        if most_runs and self._runs >= most_runs:
            return f"it has made {self._runs} runs"
        if used - self._used_at_first_mib > most_drift:
            return f"its memory has grown by {used - self._used_at_first_mib} MiB"
        return None


def _say(text: str) -> None:
    """Say something for the run's log; the worker reads our output."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _our_pipelines() -> list[str]:
    """The pipelines that run in this Python, as the worker has told it."""
    return os.environ.get("WORKER_HOST_PIPELINES", "").split()


def _report_on(name: str) -> PipelineReport:
    try:
        pipeline = registry.load_pipeline(name)
        reasons = [str(reason) for reason in pipeline.unavailable_reasons()]
        version, grace = str(pipeline.version), float(pipeline.cancel_grace_seconds)
    except PipelineError as error:
        return PipelineReport(name, "unknown", [error.message], 0)
    except Exception as error:  # noqa: BLE001  (one broken pipeline must not hide the others)
        reason = f"The pipeline {name} cannot be imported: {type(error).__name__}: {error}."
        return PipelineReport(name, "unknown", [reason], 0)
    return PipelineReport(name, version, reasons, grace)


def _numbers(metrics: Mapping[str, float] | None) -> dict[str, float]:
    return {
        str(name): float(value)
        for name, value in (metrics or {}).items()
        if isinstance(value, int | float)
    }


def _cuda() -> Any:
    """torch.cuda, if a pipeline has imported torch and there is a device."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_available() else None


def _resident_mib() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // _MIB


def used_memory_mib() -> int:
    """Memory that counts: the device's where there is one, else this process's."""
    cuda = _cuda()
    if cuda is not None:
        return sum(int(cuda.memory_reserved(i)) for i in range(cuda.device_count())) // _MIB
    return _resident_mib()


def _budget_mib() -> int:
    """The setting, or else four fifths of the device's memory, or half of the machine's."""
    setting = _setting("WORKER_MEMORY_BUDGET_MIB", 0)
    if setting:
        return setting
    cuda = _cuda()
    if cuda is not None:
        return int(cuda.get_device_properties(0).total_memory * 0.8) // _MIB
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2 // _MIB


def _settle() -> None:
    """Leave out what is loaded now when garbage is collected after each run.

    Looking through the objects of numeric libraries takes a tenth of a second.
    """
    gc.collect()
    gc.freeze()


def free_caches() -> None:
    """Give back what only caches hold."""
    gc.collect()
    cuda = _cuda()
    if cuda is not None:
        with contextlib.suppress(Exception):
            cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory, the machine's or a device's, did not suffice."""
    # torch's exception is recognised by name, since torch is not imported here.
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def _is_device_error(error: BaseException) -> bool:
    """Whether the device is in a state that only a new process gets it out of."""
    return type(error).__name__ == "AcceleratorError" or any(
        words in str(error) for words in ("CUDA error", "cuDNN error", "CUBLAS_STATUS")
    )


def _die_with_worker(worker: int, connection: int) -> None:
    """Have this process, and what it starts, killed when the worker dies: leave no orphans."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != worker:
        os._exit(1)
    # The kernel kills this one process only; a watcher in its group kills the whole group. It is
    # forked twice, so that no pipeline that waits for its children ever waits for it.
    first = os.fork()
    if first:
        os.waitpid(first, 0)
        return
    if os.fork() == 0:
        with contextlib.suppress(OSError):
            pidfd = os.pidfd_open(worker)
            os.close(connection)
            nothing = os.open(os.devnull, os.O_RDWR)
            for standard in range(3):
                os.dup2(nothing, standard)
            select.select([pidfd], [], [])
            os.killpg(0, signal.SIGKILL)
    os._exit(0)


def main() -> None:
    """Serve the worker: its end of the socket is the first argument, its process id the second."""
    connection, worker = int(sys.argv[1]), int(sys.argv[2])
    _die_with_worker(worker, connection)
    # The worker alone decides when this process stops.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: None)  # not SIG_IGN, which children would inherit
    PipelineHost(Channel(socket.socket(fileno=connection))).serve()


if __name__ == "__main__":
    main()
