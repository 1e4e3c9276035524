"""What a pipeline is: the interface between the worker and the code that makes things.

Standard library only: a pipeline may run in an interpreter that has nothing of ours installed.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol
from uuid import UUID

from contract.kinds import ArtifactKind


class PipelineError(Exception):
    """A run failed for a reason that a person can read.

    Args:
        code: stable name in capitals, such as `CUTOUT_UNRELIABLE`.
        message: a sentence that says what was wrong and what to do.
        permanent: whether the same input would fail again; if so it is never retried.
    """

    def __init__(self, code: str, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.permanent = permanent


class RunCancelledError(Exception):
    """The run was told to stop; a pipeline lets it pass through.

    Before, it may hand over what it has so far, within its `cancel_grace_seconds`.
    """


class ArtifactStream(Protocol):
    """A file that is uploaded while it is being written, and never lies on this machine's disk."""

    def write(self, data: bytes | memoryview) -> int:
        """Add to the file; waits where storage takes less than is made. How many bytes: all.

        Raises:
            RunCancelledError: the run should stop now.
            OSError: nobody takes the file any more.
        """

    def finish(self) -> None:
        """Hand the file over: it is complete.

        Raises:
            RunCancelledError: the run should stop now; the file was not handed over.
        """

    def drop(self) -> None:
        """Forget the file, unless it is finished."""


class Reporter(Protocol):
    """How a running pipeline speaks to the outside."""

    def progress(self, percent: float, stage: str, message: str | None = None) -> None:
        """Tell how far the run is (0-100).

        Raises:
            RunCancelledError: the run should stop now.
        """

    def artifact(self, kind: ArtifactKind, path: Path, media_type: str) -> None:
        """Hand over a finished file; it is uploaded in the background under its file name.

        The file must stay unchanged until the run ends. A manifest that is a JSON object gets a
        section `run`, which says with what parameters the run was made.

        Of checkpoints only the newest is kept, for a later attempt of the job, and only until the
        job succeeds. A file that turned out to be invalid is not for here: raise a `PipelineError`
        `INVALID_OUTPUT`, and the run has failed.

        Raises:
            RunCancelledError: the run should stop now; the file was not handed over. A run that
                has been told so once, here or by `progress`, may hand over more: if its job was
                cancelled, these files are kept as partial results.
        """

    def stream(self, kind: ArtifactKind, name: str, media_type: str) -> ArtifactStream:
        """Begin a file that is uploaded while it is made; for large ones.

        It is a result once it is finished. Begun again under the same name before that, it takes
        the place of what was written before.

        Raises:
            RunCancelledError: the run should stop now.
        """

    def event(self, type: str, data: Mapping[str, Any]) -> None:  # noqa: A002
        """Tell something that was seen in the input; the job's events show it soon.

        Events keep their order. Of one attempt `contract.events.MOST_EVENTS` less one are kept; the
        rest is counted, and a last event `events.dropped` says how many there were.

        Args:
            type: what happened, as two words: `zone.enter`, `track.end`, `ocr.text`. The first
                must not be one of `contract.events.PLATFORM_NAMESPACES`.
            data: JSON of at most 4096 bytes and 8 levels; when it happened should be in it, in
                seconds of the input (`time_s`), since the event's own time is that of its arrival.

        Raises:
            ValueError: the type or the data is not as above.
            RunCancelledError: the run should stop now.
        """


@dataclass(frozen=True)
class RangedInput:
    """An input that stays in storage, read by ranges over a connection (`range_protocol`)."""

    descriptor: int
    """Of the connection, for one reader at a time; the host closes it."""
    size_bytes: int


@dataclass(frozen=True)
class RunInput:
    """One attempt as a pipeline sees it."""

    job_id: UUID
    model_id: str
    model_version: str
    params: Mapping[str, Any]
    prompt: str | None
    inputs: Mapping[str, Path]
    """Downloaded files by the parameter that names them."""
    work_dir: Path
    """Private and writable; removed after the run."""
    reduced_from: Mapping[str, Any] | None = None
    """What was asked for, where `params` are smaller because memory did not suffice. The host
    writes both into the manifest."""
    checkpoint: Path | None = None
    """What an earlier attempt of the job left to go on from; hostile until checked."""
    ranged: Mapping[str, RangedInput] = field(default_factory=dict)
    """Those of `Pipeline.ranged_inputs`, unless storage can't read by ranges: then they are among
    `inputs`."""


class Pipeline(ABC):
    """Code that a model selects. Loaded once, run many times, one run at a time."""

    name: ClassVar[str]
    version: ClassVar[str]
    cancel_grace_seconds: ClassVar[float] = 0.5
    """How long a cancelled run may take to notice at its next report, before it is killed and its
    models have to be loaded again. More, for a pipeline that keeps its best result so far."""

    ranged_inputs: ClassVar[frozenset[str]] = frozenset()
    """Parameters whose files are not downloaded, but read by ranges: for large ones of which little
    is read at a time."""

    @classmethod
    def unavailable_reasons(cls) -> list[str]:
        """Why this machine cannot run the pipeline, as sentences; empty when it can.

        Must be cheap and import nothing heavy: it is asked every 30 seconds.
        """
        return []

    def setup(self) -> None:  # noqa: B027  (nothing to load is a fair default)
        """Load weights and warm up; called once before the first run."""

    def teardown(self) -> None:  # noqa: B027  (dropping the object is a fair default)
        """Give memory back; the object is not used after it."""

    def smaller_params(self, params: Mapping[str, Any]) -> Mapping[str, Any] | None:  # noqa: ARG002
        """Parameters that need less memory, tried once where `params` ran out of it.

        None, the default, if there are none.
        """
        return None

    @abstractmethod
    def run(self, job: RunInput, report: Reporter) -> dict[str, float]:
        """Do the work and hand over artifacts through `report`.

        Returns:
            Metrics of the run by name (seconds, counts, bytes).

        Raises:
            PipelineError: the run failed for a known reason.
            RunCancelledError: passed through from `report`.
        """
