"""How a running pipeline speaks to the outside: the worker's `Reporter`."""

import math
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from contract.artifacts import ArtifactKind, MediaType
from contract.attempts import FailureCode, Progress
from contract.base import FileName
from worker_vm.control import RunControl
from worker_vm.logs import get_logger, storable
from worker_vm.pipelines.base import PipelineError
from worker_vm.supervisor import Supervisor
from worker_vm.uploads import Upload, UploadQueue

log = get_logger(__name__)

LOG_NAME = "run.log"
_STAGE = 64
_MESSAGE = 500
_FILE_NAME: TypeAdapter[str] = TypeAdapter(FileName)
_MEDIA_TYPE: TypeAdapter[str] = TypeAdapter(MediaType)


class RunReporter:
    """Checks what a pipeline says and passes it on without waiting for the network."""

    def __init__(self, control: RunControl, supervisor: Supervisor, uploads: UploadQueue) -> None:
        self._control = control
        self._supervisor = supervisor
        self._uploads = uploads
        self._percent = 0.0
        self._stage = ""
        self._names = {LOG_NAME}

    def progress(self, percent: float, stage: str, message: str | None = None) -> None:
        """See `Reporter.progress`. Percent is kept within 0-100 and never falls."""
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

    def artifact(self, kind: ArtifactKind, path: Path, media_type: str) -> None:
        """See `Reporter.artifact`.

        Raises:
            RunCancelledError: the run should stop now.
            PipelineError: INVALID_OUTPUT; the file is missing, empty or handed over twice, or its
                name or media type is not allowed.
        """
        self._control.check()
        problem = self._problem(path, media_type)
        if problem is not None:
            raise PipelineError(
                FailureCode.INVALID_OUTPUT,
                f"The pipeline made a result that cannot be kept: {path.name} {problem}.",
                permanent=False,
            )
        self._names.add(path.name)
        self._uploads.submit(Upload(kind=kind, path=path, media_type=media_type))

    def _problem(self, path: Path, media_type: str) -> str | None:
        try:
            _FILE_NAME.validate_python(path.name)
            _MEDIA_TYPE.validate_python(media_type)
        except ValidationError:
            return "has a name or media type that is not allowed"
        if path.name in self._names:
            return "was handed over twice"
        if not path.is_file():
            return "does not exist"
        if path.stat().st_size == 0:
            return "is empty"
        return None
