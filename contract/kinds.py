"""Kinds of artifacts; standard library only, so that any interpreter can import it."""

from enum import StrEnum


class ArtifactKind(StrEnum):
    """What an artifact is for."""

    INPUT = "input"
    MODEL_3D = "model_3d"
    PREVIEW = "preview"
    VIDEO = "video"
    FRAMES_ZIP = "frames_zip"
    TELEMETRY = "telemetry"
    ANALYTICS = "analytics"
    CHECKPOINT = "checkpoint"
    MANIFEST = "manifest"
    LOG = "log"
