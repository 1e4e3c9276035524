"""Finished work on disk, until the app has it: it survives an API outage and a worker's restart."""

import os
from pathlib import Path

from pydantic import BaseModel

from contract.attempts import (
    AttemptCancelled,
    AttemptSucceeded,
    DetectedEvent,
    FinishRequest,
    JobSpec,
)
from contract.kinds import ArtifactKind
from worker_vm.uploads import Upload

OUTCOME = "outcome.json"


class SpooledFile(BaseModel):
    """A file of a finished run; `path` is relative to the run's folder."""

    kind: ArtifactKind
    path: str
    media_type: str


class SpooledOutcome(BaseModel):
    """How a run ended, and what it made: all that is needed to deliver it."""

    spec: JobSpec
    report: FinishRequest
    files: list[SpooledFile]
    events: list[DetectedEvent] = []


def save(
    folder: Path,
    spec: JobSpec,
    report: FinishRequest,
    uploads: list[Upload],
    events: list[DetectedEvent],
) -> None:
    """Write down how a run has ended; in full or not at all."""
    kept = uploads if isinstance(report, AttemptSucceeded | AttemptCancelled) else []
    if isinstance(report, AttemptSucceeded):
        kept = [upload for upload in kept if upload.kind is not ArtifactKind.CHECKPOINT]
    outcome = SpooledOutcome(
        spec=spec,
        report=report,
        files=[
            SpooledFile(
                kind=upload.kind,
                path=str(upload.path.resolve().relative_to(folder.resolve())),
                media_type=upload.media_type,
            )
            for upload in kept
        ],
        events=events,
    )
    partial = folder / f"{OUTCOME}.part"
    with partial.open("w", encoding="utf-8") as file:
        file.write(outcome.model_dump_json())
        file.flush()
        os.fsync(file.fileno())
    partial.rename(folder / OUTCOME)


def load(folder: Path) -> SpooledOutcome:
    """Read what `save` wrote.

    Raises:
        OSError, ValueError: it cannot be read.
    """
    return SpooledOutcome.model_validate_json((folder / OUTCOME).read_text(encoding="utf-8"))


def is_spooled(folder: Path) -> bool:
    """Whether a run's folder holds an outcome that was not delivered."""
    return (folder / OUTCOME).is_file()
