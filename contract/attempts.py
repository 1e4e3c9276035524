"""One attempt's conversation: claim, heartbeat, finish."""

from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, Field, FiniteFloat

from contract.base import PROTOCOL_VERSION, ErrorCode, Message, Sha256, Text, UtcDatetime
from contract.events import MOST_AT_ONCE, MOST_EVENTS, check_event_data, check_event_type
from contract.kinds import ArtifactKind

WorkerName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]

ATTEMPT_TOKEN_HEADER = "X-Attempt-Token"  # noqa: S105  (a header's name)


class ClaimRequest(Message):
    """A worker that popped the task asks for the right to run it.

    `claim_id` is drawn by the worker once for each claim: the same claim repeated after a lost
    answer gets the same lease and token; anybody else's claim gets 409.
    """

    worker_name: WorkerName
    claim_id: UUID
    protocol: int = PROTOCOL_VERSION


class InputFile(Message):
    """One stored object, ready to download: what a parameter names, or a checkpoint."""

    parameter: str
    object_name: str
    url: str
    etag: str
    size_bytes: int
    media_type: str


class Reproduction(Message):
    """The job that this one makes again, and the result to compare with."""

    of: UUID
    kind: ArtifactKind
    sha256: Sha256
    manifest: InputFile | None = Field(description="says how the original was made")


class JobSpec(Message):
    """Everything a worker needs to run one attempt."""

    protocol: int = PROTOCOL_VERSION
    attempt_id: UUID
    job_id: UUID
    attempt: int = Field(description="1 for the first attempt of the job's budget")
    model_id: str
    model_version: str
    pipeline: str
    params: dict[str, Any]
    prompt: str | None
    inputs: list[InputFile]
    checkpoint: InputFile | None = Field(
        default=None, description="the newest one of the job's earlier attempts, to go on from"
    )
    reproduction: Reproduction | None = None
    time_limit_seconds: int
    lease_seconds: float
    heartbeat_seconds: float
    lease_expires_at: UtcDatetime
    attempt_token: str
    traceparent: str | None


class Progress(Message):
    """How far a run is: percent never falls within one attempt."""

    percent: float = Field(ge=0, le=100)
    stage: str = Field(max_length=64)
    message: str | None = Field(default=None, max_length=500)


class DetectedEvent(Message):
    """Something that the pipeline saw in its input, such as a person who entered a zone."""

    sequence: int = Field(
        ge=1, le=MOST_EVENTS + 1, description="1 for the attempt's first; the last one is a notice"
    )
    type: Annotated[str, AfterValidator(check_event_type)] = Field(examples=["zone.enter"])
    data: Annotated[dict[str, Any], AfterValidator(check_event_data)] = Field(
        examples=[{"zone": "door", "track_id": 7, "time_s": 12.48}]
    )


def _in_order(events: list[DetectedEvent]) -> list[DetectedEvent]:
    if any(after.sequence <= before.sequence for before, after in pairwise(events)):
        raise ValueError("must be in the order of their sequence, each once")
    return events


class AttemptHeartbeat(Message):
    """The attempt is alive; extends its lease. Events that came before are not written again."""

    progress: Progress | None = None
    events: Annotated[list[DetectedEvent], AfterValidator(_in_order)] = Field(
        default_factory=list, max_length=MOST_AT_ONCE
    )


class AttemptHeartbeatReply(Message):
    """Whether to go on, and until when the lease runs."""

    cancel_requested: bool
    lease_expires_at: UtcDatetime


class FailureCode(StrEnum):
    """Failures that the platform itself reports; a pipeline may add its own codes."""

    WORKER_LOST = "WORKER_LOST"
    NO_CAPABLE_WORKER = "NO_CAPABLE_WORKER"
    WORKER_CRASHED = "WORKER_CRASHED"
    TIME_LIMIT_EXCEEDED = "TIME_LIMIT_EXCEEDED"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    INPUT_CHANGED = "INPUT_CHANGED"
    INPUT_UNAVAILABLE = "INPUT_UNAVAILABLE"
    INVALID_INPUT = "INVALID_INPUT"
    INVALID_OUTPUT = "INVALID_OUTPUT"
    STORAGE_UNAVAILABLE = "STORAGE_UNAVAILABLE"
    PIPELINE_ERROR = "PIPELINE_ERROR"


SHORT_LOG = 65_536
"""The longest run log, in characters, that a report carries; a longer one is uploaded."""


RunLog = Annotated[
    str | None,
    Field(
        max_length=SHORT_LOG,
        description="the run's log, if it is short; it becomes the artifact run.log",
    ),
]


class AttemptSucceeded(Message):
    """The pipeline ended well and everything it made has been uploaded."""

    outcome: Literal["succeeded"] = "succeeded"
    artifact_ids: list[UUID] = Field(
        max_length=1000,
        description="everything it made, by ticket; what is not committed yet is committed now",
    )
    metrics: dict[Text, FiniteFloat] = Field(default_factory=dict, max_length=100)
    log: RunLog = None


class AttemptFailed(Message):
    """The run failed. Whether it is tried again is the app's decision."""

    outcome: Literal["failed"] = "failed"
    code: ErrorCode
    message: str = Field(max_length=2000)
    permanent: bool = Field(description="the same input would fail again")
    log_tail: str = Field(default="", max_length=20_000)
    log: RunLog = None


class AttemptCancelled(Message):
    """The worker stopped because it was asked to."""

    outcome: Literal["cancelled"] = "cancelled"
    log: RunLog = None


class AttemptReleased(Message):
    """The worker hands the attempt back unrun or unfinished; it counts as no failure."""

    outcome: Literal["released"] = "released"
    reason: str = Field(max_length=500)
    log: RunLog = None


FinishRequest = Annotated[
    AttemptSucceeded | AttemptFailed | AttemptCancelled | AttemptReleased,
    Field(discriminator="outcome"),
]


class FinishReply(Message):
    """What the app decided: the job's status after the report."""

    job_status: str
    replayed: bool = Field(default=False, description="this very report had arrived before")
