"""What a worker tells about itself."""

from typing import Annotated
from uuid import UUID

from pydantic import Field

from contract.attempts import WorkerName
from contract.base import PROTOCOL_VERSION, Message, Text, UtcDatetime

_MAX_INT = (1 << 31) - 1

QueueName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]


class GpuInfo(Message):
    """One GPU; memory in MiB."""

    name: Text = Field(max_length=200)
    memory_total_mib: int = Field(ge=0, le=_MAX_INT)
    memory_free_mib: int = Field(ge=0, le=_MAX_INT)
    driver: Text = Field(max_length=100)


class PipelineStatus(Message):
    """Whether a worker can run a pipeline, and if not, exactly why."""

    name: Text = Field(max_length=64)
    version: Text = Field(max_length=64)
    runnable: bool
    reasons: list[Annotated[Text, Field(max_length=500)]] = Field(
        default_factory=list, max_length=20
    )
    warm: bool = Field(default=False, description="loaded, so that a run starts at once")


class WorkerHeartbeat(Message):
    """Sent at start, every 30 s and at the end of a worker's life."""

    protocol: int = PROTOCOL_VERSION
    name: WorkerName = Field(description="unique for each start of a worker process")
    hostname: Text = Field(max_length=255)
    version: Text = Field(max_length=64)
    queue: QueueName
    started_at: UtcDatetime
    cpu_count: int = Field(ge=1, le=_MAX_INT)
    memory_total_mib: int = Field(ge=0, le=_MAX_INT)
    gpus: list[GpuInfo] = Field(default_factory=list, max_length=64)
    versions: dict[Text, Text] = Field(default_factory=dict, max_length=100)
    pipelines: list[PipelineStatus] = Field(default_factory=list, max_length=100)
    current_attempt_id: UUID | None = None
    stopping: bool = False


class WorkerHeartbeatReply(Message):
    """The app's answer: when to report next."""

    next_heartbeat_seconds: int
