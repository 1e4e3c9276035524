"""What a run of `inflate` without a worker tells and leaves behind."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trimesh

from contract.events import check_event_data, check_event_type
from contract.kinds import ArtifactKind


@dataclass
class Recorder:
    """A reporter that remembers."""

    steps: list[tuple[float, str]] = field(default_factory=list)
    artifacts: dict[str, tuple[ArtifactKind, Path, str]] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def progress(self, percent: float, stage: str, message: str | None = None) -> None:
        """Note a step."""
        assert message
        self.steps.append((percent, stage))

    def artifact(self, kind: ArtifactKind, path: Path, media_type: str) -> None:
        """Note a file, which must be complete."""
        assert path.stat().st_size > 0
        self.artifacts[path.name] = (kind, path, media_type)
        self.order.append(path.name)

    def event(self, type: str, data: Mapping[str, Any]) -> None:  # noqa: A002
        """Note what was seen, which must be fit to be kept."""
        self.events.append((check_event_type(type), check_event_data(data)))


@dataclass
class Outcome:
    """What a run left behind."""

    recorder: Recorder
    metrics: dict[str, float]

    def path(self, name: str) -> Path:
        """Where an artifact lies."""
        return self.recorder.artifacts[name][1]

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest, parsed."""
        return json.loads(self.path("manifest.json").read_text())

    @property
    def glb_hash(self) -> str:
        """SHA-256 of the GLB."""
        return hashlib.sha256(self.path("model.glb").read_bytes()).hexdigest()

    @property
    def mesh(self) -> trimesh.Trimesh:
        """The GLB as trimesh reads it, points kept apart at the seam."""
        return trimesh.load(self.path("model.glb"), force="mesh", process=False)

    @property
    def welded(self) -> trimesh.Trimesh:
        """The same with the seam joined."""
        mesh = trimesh.Trimesh(self.mesh.vertices, self.mesh.faces, process=False)
        mesh.merge_vertices()
        return mesh
