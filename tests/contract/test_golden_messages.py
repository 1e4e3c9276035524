"""Every wire message, byte for byte: a change here is a change for workers in the field."""

import importlib
import json
import pkgutil
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

import contract
from contract.artifacts import (
    ArtifactCommit,
    ArtifactKind,
    ArtifactRecord,
    UploadTicket,
    UploadTicketRequest,
)
from contract.attempts import (
    AttemptCancelled,
    AttemptFailed,
    AttemptHeartbeat,
    AttemptHeartbeatReply,
    AttemptReleased,
    AttemptSucceeded,
    ClaimRequest,
    DetectedEvent,
    FailureCode,
    FinishReply,
    InputFile,
    JobSpec,
    Progress,
    Reproduction,
)
from contract.base import Message
from contract.workers import GpuInfo, PipelineStatus, WorkerHeartbeat, WorkerHeartbeatReply

GOLDEN = Path(__file__).parent / "golden"

ATTEMPT = UUID("01a1f888-73af-74cc-b052-31987fc97afa")
JOB = UUID("01a1f888-7332-7128-a621-0e7d53df5f83")
TICKET = UUID("01a1f888-7374-72dc-a0e9-638c5e70624f")
CLAIM = UUID("5c1c9a2e-6f0b-4d5e-9b43-0a6d2f1f7b11")
MOMENT = datetime(2026, 3, 1, 12, 30, 15, 250_000, tzinfo=UTC)
SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

_INPUT = InputFile(
    parameter="image_path",
    object_name="uploads/u/t/teapot.png",
    url="https://storage.example.com/pipeline3d/uploads/u/t/teapot.png?X-Amz-Signature=0",
    etag="900150983cd24fb0d6963f7d28e17f72",
    size_bytes=481_337,
    media_type="image/png",
)
_PROGRESS = Progress(percent=42.5, stage="texture", message="Filling the back — 3 of 7")
_EVENT = DetectedEvent(
    sequence=17,
    type="zone.enter",
    data={"zone": "Tür 2", "track_id": 7, "time_s": 12.48, "box": [0, 12.5, 40, 80]},
)
_GPU = GpuInfo(
    name="NVIDIA L4", memory_total_mib=23_034, memory_free_mib=22_000, driver="550.54.15"
)
_PIPELINE = PipelineStatus(
    name="sf3d",
    version="1.0.0",
    runnable=False,
    reasons=["There are no weights in /models/sf3d."],
    warm=False,
)

_REPRODUCTION = Reproduction(
    of=UUID("01a1f870-0b1c-7d2e-8f3a-4b5c6d7e8f90"),
    kind=ArtifactKind.MODEL_3D,
    sha256=SHA256,
    manifest=InputFile(
        parameter="manifest.json",
        object_name="jobs/o/a/manifest.json",
        url="https://storage.example.com/pipeline3d/jobs/o/a/manifest.json?X-Amz-Signature=0",
        etag="d41d8cd98f00b204e9800998ecf8427e",
        size_bytes=2048,
        media_type="application/json",
    ),
)

MESSAGES: list[Message] = [
    UploadTicketRequest(
        kind=ArtifactKind.MODEL_3D,
        name="model.glb",
        media_type="model/gltf-binary",
        size_bytes=1_048_576,
        sha256=SHA256,
    ),
    UploadTicket(
        ticket_id=TICKET,
        upload_url="https://storage.example.com/pipeline3d/jobs/j/a/model.glb?X-Amz-Signature=0",
        headers={"Content-Type": "model/gltf-binary"},
        expires_at=MOMENT,
    ),
    ArtifactCommit(ticket_id=TICKET),
    ArtifactRecord(
        artifact_id=TICKET,
        kind=ArtifactKind.MODEL_3D,
        name="model.glb",
        size_bytes=1_048_576,
        sha256=SHA256,
    ),
    ClaimRequest(worker_name="gpu-01.4711", claim_id=CLAIM),
    _INPUT,
    _REPRODUCTION,
    JobSpec(
        attempt_id=ATTEMPT,
        job_id=JOB,
        attempt=1,
        model_id="inflate-v1",
        model_version="1.0.0",
        pipeline="inflate",
        params={"image_path": "uploads/u/t/teapot.png", "relief": 0.3, "box": [0, 0, 1, 0.5]},
        prompt=None,
        inputs=[_INPUT],
        checkpoint=InputFile(
            parameter="checkpoint-0600.npz",
            object_name="jobs/j/a/checkpoint-0600.npz",
            url="https://storage.example.com/pipeline3d/jobs/j/a/checkpoint-0600.npz?X-Amz-Signature=0",
            etag="900150983cd24fb0d6963f7d28e17f72",
            size_bytes=2_097_152,
            media_type="application/zip",
        ),
        reproduction=_REPRODUCTION,
        time_limit_seconds=300,
        lease_seconds=60,
        heartbeat_seconds=10,
        lease_expires_at=MOMENT,
        attempt_token=SHA256,
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ),
    _PROGRESS,
    _EVENT,
    AttemptHeartbeat(progress=_PROGRESS, events=[_EVENT]),
    AttemptHeartbeatReply(cancel_requested=True, lease_expires_at=MOMENT),
    AttemptSucceeded(artifact_ids=[TICKET], metrics={"faces": 20_000, "seconds": 3.25}),
    AttemptFailed(
        code=FailureCode.OUT_OF_MEMORY,
        message="The GPU ran out of memory.",
        permanent=False,
        log_tail="first line\nlast line",
    ),
    AttemptCancelled(),
    AttemptReleased(reason="This worker is shutting down."),
    FinishReply(job_status="SUCCEEDED", replayed=True),
    _GPU,
    _PIPELINE,
    WorkerHeartbeat(
        name="gpu-01.4711",
        hostname="gpu-01.example.com",
        version="0.1.0",
        queue="gpu",
        started_at=MOMENT,
        cpu_count=8,
        memory_total_mib=32_768,
        gpus=[_GPU],
        versions={"python": "3.12.3", "torch": "2.6.0"},
        pipelines=[_PIPELINE],
        current_attempt_id=ATTEMPT,
    ),
    WorkerHeartbeatReply(next_heartbeat_seconds=30),
]

EVERY_MESSAGE = pytest.mark.parametrize(
    "message", MESSAGES, ids=[type(message).__name__ for message in MESSAGES]
)


def golden(message: Message) -> str:
    """The golden file of a message."""
    return (GOLDEN / f"{type(message).__name__}.json").read_text(encoding="utf-8")


@EVERY_MESSAGE
def test_golden_file_is_read(message: Message) -> None:
    """The golden JSON is read as the message it stands for."""
    assert type(message).model_validate_json(golden(message)) == message


@EVERY_MESSAGE
def test_golden_file_is_written(message: Message) -> None:
    """The message is written as the golden JSON, byte for byte, also after it was read."""
    text = golden(message)
    assert message.model_dump_json(indent=2) + "\n" == text
    assert type(message).model_validate_json(text).model_dump_json(indent=2) + "\n" == text


@EVERY_MESSAGE
def test_unknown_fields_are_ignored(message: Message) -> None:
    """A newer side may send fields that this one does not know."""
    newer = {**json.loads(golden(message)), "from_the_future": {"a": [1]}}
    assert type(message).model_validate(newer) == message


@EVERY_MESSAGE
def test_messages_cannot_be_changed(message: Message) -> None:
    """A message that was read stays as it was."""
    name = next(iter(type(message).model_fields))
    with pytest.raises(ValueError, match="frozen"):
        setattr(message, name, None)


def test_heartbeats_of_workers_before_there_were_events() -> None:
    """A worker in the field need not know of events."""
    assert AttemptHeartbeat.model_validate_json('{"progress": null}').events == []


def test_every_message_has_a_golden_file() -> None:
    """No message is without its file, and no file without its message."""
    for module in pkgutil.iter_modules(contract.__path__):
        importlib.import_module(f"contract.{module.name}")
    names = {kind.__name__ for kind in Message.__subclasses__()}
    assert {type(message).__name__ for message in MESSAGES} == names
    assert {path.stem for path in GOLDEN.glob("*.json")} == names
