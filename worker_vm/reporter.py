"""What a run tells is checked here before it is believed, and passed on without waiting."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from contract.attempts import FailureCode, Progress
from contract.kinds import ArtifactKind
from contract.streams import StreamRequest
from worker_vm.control import RunControl, StopReason
from worker_vm.logs import get_logger, storable
from worker_vm.pipelines.base import PipelineError
from worker_vm.streams import RunStreams, StreamedFile, unusable
from worker_vm.supervisor import Supervisor
from worker_vm.uploads import Upload

log = get_logger(__name__)

LOG_NAME = "run.log"
_STAGE = 64
_MESSAGE = 500
_NOT_ALLOWED = "has a kind, name or media type that is not allowed"


class FileTaker(Protocol):
    """Where a run's files go."""

    def submit(self, upload: Upload | StreamedFile) -> None:
        """Take a file that was found good."""


class RunReporter:
    """The `RunListener` of one run; a pipeline's process is trusted no more than a client.

    Args:
        control: says whether the run should stop.
        supervisor: takes progress and events.
        files: takes files.
        streams: takes files while they are being made.
        work_dir: where the run's files must lie.
        free_other_memory: makes the other hosts give theirs back.
    """

    def __init__(
        self,
        control: RunControl,
        supervisor: Supervisor,
        files: FileTaker,
        streams: RunStreams,
        *,
        work_dir: Path,
        free_other_memory: Callable[[], None],
    ) -> None:
        self.free_other_memory = free_other_memory
        self._work_dir = work_dir.resolve()
        self._restarts = 0
        self._control = control
        self._supervisor = supervisor
        self._files = files
        self._streams = streams
        self._percent = 0.0
        self._stage = ""
        self._names = {LOG_NAME}
        self._streamed_as: dict[str, str] = {}

    def restarted(self, reason: str) -> None:
        """The run begins again: files it has handed over already get another name."""
        log.warning("run.restarted", reason=reason)
        self._restarts += 1
        self._supervisor.events.begin_again()

    def advanced(self, percent: float, stage: str, message: str | None = None) -> None:
        """The run is so far. Percent is kept within 0-100 and never falls."""
        self._control.check()
        if math.isfinite(percent):
            self._percent = max(self._percent, min(100.0, float(percent)))
        if stage != self._stage:
            log.info("run.stage", stage=stage, percent=round(self._percent, 1))
            self._stage = stage
        self._supervisor.tell(
            Progress(
                percent=self._percent,
                stage=storable(stage)[:_STAGE],
                message=None if message is None else storable(message)[:_MESSAGE],
            )
        )

    def produced(self, kind: str, path: Path, media_type: str) -> None:
        """A file is finished. A cancelled run may still hand over what it has.

        Raises:
            RunCancelledError: the run should stop now, for another reason.
            PipelineError: INVALID_OUTPUT; the file is missing, empty, elsewhere or handed over
                twice, or its kind, name or media type is not allowed.
        """
        cancelled = self._control.reason is StopReason.CANCELLED
        if not cancelled:
            self._control.check()
        try:
            problem = self._problem(kind, path, media_type)
            if problem is None and path.name in self._names:
                if self._restarts:
                    path = path.rename(path.with_stem(f"{path.stem}-{self._restarts + 1}"))
                if path.name in self._names:
                    problem = "was handed over twice"
        except (OSError, ValueError, RuntimeError) as error:
            # A name that is too long or has a NUL, a folder that is closed to us, links in a ring.
            problem = f"cannot be looked at ({getattr(error, 'strerror', None) or error})"
        if problem is not None and cancelled:
            log.warning("artifact.left_out", name=storable(path.name), problem=problem)
            return
        if problem is not None:
            raise unusable(path.name, problem)
        self._names.add(path.name)
        self._files.submit(Upload(kind=ArtifactKind(kind), path=path, media_type=media_type))

    def streaming(self, kind: str, name: str, media_type: str, descriptor: int) -> None:
        """A file is being made, and comes through a pipe.

        Raises:
            PipelineError: INVALID_OUTPUT; it was handed over already, there are too many, or its
                kind, name or media type is not allowed.
        """
        try:
            told, name = name, self._free_name(name)
            request = _as_request(kind, name, media_type)
        except (ValueError, TypeError, PipelineError) as error:
            os.close(descriptor)
            if isinstance(error, PipelineError):
                raise
            raise unusable(storable(str(name)), _NOT_ALLOWED) from error
        self._streamed_as[told] = name
        self._streams.begin(request, descriptor)

    def streamed(self, name: str, size_bytes: int) -> None:
        """A file that was streaming is finished.

        Raises:
            PipelineError: INVALID_OUTPUT; there is no such file, or it was handed over already.
        """
        called = self._streamed_as.pop(name, name)
        if called in self._names:
            raise unusable(called, "was handed over twice")
        file = self._streams.finish(called, size_bytes)
        if file is None:
            raise unusable(storable(name), "was never begun")
        self._names.add(called)
        self._files.submit(file)

    def _free_name(self, name: str) -> str:
        """The name, or another one if a run that begins again has handed that over before."""
        path = Path(name)
        if name in self._names and self._restarts and name != LOG_NAME:
            name = path.with_stem(f"{path.stem}-{self._restarts + 1}").name
        if name in self._names:
            raise unusable(name, "was handed over twice")
        return name

    def detected(self, event_type: str, data: dict[str, Any]) -> None:
        """The pipeline has seen something in its input.

        Raises:
            RunCancelledError: the run should stop now.
            PipelineError: INVALID_OUTPUT; it is no event that can be kept.
        """
        self._control.check()
        try:
            self._supervisor.tell_event(event_type, data)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise PipelineError(
                FailureCode.INVALID_OUTPUT,
                f"The pipeline told an event that cannot be kept: {first['msg']}.",
                permanent=False,
            ) from None

    def _problem(self, kind: str, path: Path, media_type: str) -> str | None:
        if path.is_symlink() or not path.resolve().is_relative_to(self._work_dir):
            return "lies outside the run's folder"
        try:
            _as_request(kind, path.name, media_type)
        except ValueError:  # pydantic's ValidationError is one
            return _NOT_ALLOWED
        if path.name == LOG_NAME:
            return "has the name of the run's log"
        if not path.is_file():
            return "does not exist"
        if path.stat().st_size == 0:
            return "is empty"
        return None


def _as_request(kind: str, name: str, media_type: str) -> StreamRequest:
    """Kind, name and media type, if they are allowed; ValueError if not."""
    return StreamRequest(kind=ArtifactKind(kind), name=name, media_type=media_type)
