"""The pipeline host: a process that keeps pipelines loaded and runs them, one run at a time.

`python -m worker_vm.pipeline_host FD` is started by the worker (`host_process`). It knows no
queue, no API and no key: it gets parameters and paths, and answers with progress and finished
files. It imports nothing but the standard library and the pipelines themselves.
"""

import contextlib
import gc
import os
import platform
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from uuid import UUID

from contract.events import check_event_data, check_event_type
from contract.kinds import ArtifactKind
from worker_vm import host_manifest
from worker_vm.host_guard import become_host
from worker_vm.host_memory import (
    free_caches,
    is_out_of_memory,
    memory_now,
    resident_mib,
    settle,
    used_memory_mib,
)
from worker_vm.host_protocol import (
    Advanced,
    Cancel,
    Channel,
    Command,
    Detected,
    Ended,
    Loaded,
    MemoryFreed,
    MemoryNeeded,
    PipelineReport,
    Prepare,
    Produced,
    Ready,
    Reduced,
    RoomMade,
    RoomWanted,
    Run,
    Unload,
)
from worker_vm.pipelines import registry
from worker_vm.pipelines.base import Pipeline, PipelineError, RunCancelledError, RunInput


def _setting(name: str, default: int) -> int:
    return int(os.environ.get(name) or default)


class _Report:
    """A run's `Reporter`: passes on what the pipeline says, and stops it when asked to.

    Closed at the end of the run: a thread that a pipeline has left must not speak for the next.
    """

    def __init__(
        self, channel: Channel, cancelled: threading.Event, facts: Mapping[str, Any]
    ) -> None:
        self._channel = channel
        self._cancelled = cancelled
        self._facts = facts
        self._closed = False
        self._told = False
        self.has_manifest = False

    def close(self) -> None:
        self._closed = True

    def progress(self, percent: float, stage: str, message: str | None = None) -> None:
        self._check()
        self._channel.send(Advanced(float(percent), str(stage), message))

    def artifact(self, kind: ArtifactKind, path: Path, media_type: str) -> None:
        if self._closed or not self._told:
            self._check()
        if kind == ArtifactKind.MANIFEST:
            self.has_manifest = True
            if media_type == host_manifest.MEDIA_TYPE:
                host_manifest.add_run(Path(path), self._facts)
        # The worker may be in another folder.
        self._channel.send(Produced(str(kind), str(Path(path).absolute()), str(media_type)))

    def event(self, type: str, data: Mapping[str, Any]) -> None:  # noqa: A002  (as the API has it)
        self._check()
        # Here, where the pipeline's own line stands in the traceback.
        try:
            self._channel.send(Detected(check_event_type(type), check_event_data(data)))
        except ValueError as error:
            raise ValueError(f"The event {type!r} {error}.") from None

    def _check(self) -> None:
        if self._closed or self._cancelled.is_set():
            self._told = True
            raise RunCancelledError


class _Shelf:
    """Loaded pipelines. Which of them make room for others, and when, is the worker's decision.

    Args:
        tell: tells the worker what is loaded now.
        make_room: asks the worker which one to drop for a pipeline; None if it may stay or come.
    """

    def __init__(
        self, tell: Callable[[list[str]], None], make_room: Callable[[str], str | None]
    ) -> None:
        self._tell = tell
        self._make_room = make_room
        self._loaded: dict[str, Pipeline] = {}

    def get(self, name: str) -> Pipeline:
        """A pipeline after its `setup()`; what was used least recently makes room for it."""
        if name not in self._loaded:
            self._fit(name)
            started = time.monotonic()
            self._loaded[name] = self._set_up(name)
            settle()
            _say(f"{name} is set up after {time.monotonic() - started:.2f} s")
            # Only now is it known how large it is.
            self._fit(name)
            self._tell(list(self._loaded))
        return self._loaded[name]

    def _set_up(self, name: str) -> Pipeline:
        """A new pipeline after its `setup()`; if memory does not suffice, all others go first."""
        pipeline = registry.load_pipeline(name)()
        try:
            pipeline.setup()
        except BaseException as error:
            if not (is_out_of_memory(error) and self._loaded):
                raise
        else:
            return pipeline
        # Outside the handler, where the traceback keeps nothing alive that was loaded by half.
        del pipeline
        self.drop_all_but(None)
        pipeline = registry.load_pipeline(name)()
        pipeline.setup()
        return pipeline

    def drop_all_but(self, name: str | None) -> None:
        """Give back the memory of every other pipeline."""
        for other in [loaded for loaded in self._loaded if loaded != name]:
            self.drop(other)
        free_caches()

    def drop(self, name: str) -> None:
        """Give back the memory of a pipeline, if it is loaded."""
        pipeline = self._loaded.pop(name, None)
        if pipeline is not None:
            with contextlib.suppress(Exception):
                pipeline.teardown()
            del pipeline
            gc.unfreeze()
            free_caches()
            settle()
            _say(f"{name} was dropped to make room")
        self._tell(list(self._loaded))

    def _fit(self, name: str) -> None:
        while (other := self._make_room(name)) is not None:
            self.drop(other)


class PipelineHost:
    """Obeys the worker at the other end of a channel until that is gone."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._shelf = _Shelf(self._tell_loaded, self._make_room)
        self._commands: SimpleQueue[Command] = SimpleQueue()
        self._cancelled = threading.Event()
        self._memory_freed = threading.Event()
        self._room: SimpleQueue[str | None] = SimpleQueue()
        self._runs = 0
        self._used_at_first_mib: int | None = None

    def serve(self) -> None:
        """Say what can be run, then obey; the guard ends this."""
        self._channel.send(Ready(platform.python_version(), [*map(_report_on, _our_pipelines())]))
        threading.Thread(target=self._listen, daemon=True).start()
        while True:
            command = self._commands.get()
            if isinstance(command, Prepare):
                self._prepare(command.pipeline)
            elif isinstance(command, Unload):
                self._shelf.drop(command.pipeline)
            elif isinstance(command, Run):
                self._channel.send(self._run(command))

    def _listen(self) -> None:
        """Take commands while a run goes on; when the worker is gone, the guard ends all this."""
        with contextlib.suppress(OSError):
            while (message := self._channel.receive()) is not None:
                if isinstance(message, Cancel):
                    self._cancelled.set()
                elif isinstance(message, MemoryFreed):
                    self._memory_freed.set()
                elif isinstance(message, RoomMade):
                    self._room.put(message.unload)
                elif isinstance(message, Prepare | Unload | Run):
                    if isinstance(message, Run):
                        # A stop that came too late for the last run is not for this one.
                        self._cancelled.clear()
                    self._commands.put(message)

    def _tell_loaded(self, names: list[str]) -> None:
        self._channel.send(Loaded(names, memory_now()))

    def _make_room(self, name: str) -> str | None:
        self._channel.send(RoomWanted(name, memory_now()))
        return self._room.get()

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
        params = command.params if smaller is None else smaller
        asked = None if smaller is None else command.params
        facts = {"params": dict(params), "reduced_from": asked, "try": number}
        report = _Report(self._channel, self._cancelled, facts)
        with contextlib.closing(report):
            metrics = pipeline.run(
                RunInput(
                    job_id=UUID(command.job_id),
                    model_id=command.model_id,
                    model_version=command.model_version,
                    params=params,
                    prompt=command.prompt,
                    inputs={name: Path(path) for name, path in command.inputs.items()},
                    work_dir=work_dir,
                    reduced_from=asked,
                    checkpoint=None if command.checkpoint is None else Path(command.checkpoint),
                ),
                report,
            )
            if asked is not None and not report.has_manifest:
                path = host_manifest.new_manifest(work_dir, facts)
                report.artifact(ArtifactKind.MANIFEST, path, host_manifest.MEDIA_TYPE)
            return metrics

    def _reason_to_recycle(self) -> str | None:
        self._runs += 1
        used = resident_mib()
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


def _is_device_error(error: BaseException) -> bool:
    """Whether the device is in a state that only a new process gets it out of."""
    return type(error).__name__ == "AcceleratorError" or any(
        words in str(error) for words in ("CUDA error", "cuDNN error", "CUBLAS_STATUS")
    )


def main() -> None:
    """Serve the worker at the other end of the socket that the argument names."""
    connection = int(sys.argv[1])
    become_host(connection)
    # The worker alone decides when this process stops.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: None)  # not SIG_IGN, which children would inherit
    PipelineHost(Channel(socket.socket(fileno=connection))).serve()


if __name__ == "__main__":
    main()
