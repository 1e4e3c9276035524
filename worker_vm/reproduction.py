"""A run that makes another job's result again: whether it did, told in its manifest."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from contract.attempts import Reproduction
from contract.kinds import ArtifactKind
from worker_vm.host_manifest import MEDIA_TYPE
from worker_vm.logs import get_logger
from worker_vm.streams import StreamedFile
from worker_vm.uploads import Upload, UploadQueue, open_regular

log = get_logger(__name__)

LARGEST_MANIFEST = 16 << 20
_SECTION = "reproduction"
_CAUSES = (
    "pipeline_version",
    "libraries",
    "device",
    "guidance",
    "upstream",
    "parameters",
    "reduced_from",
    "seed",
    "input",
    "resumed_from_step",
    "run",
)
"""Sections of a manifest that say why a result is as it is; the others tell of the result."""
_MOST_DIFFERENCES = 100
_LONGEST_VALUE = 300


class ReproducedRun:
    """Takes a run's files on their way to the uploads, and holds back its manifests.

    Args:
        wanted: what to compare with.
        original: the original's manifest; None if it cannot be had.
        uploads: where files go.
        folder: for manifests that are written here; made when it is needed.
    """

    def __init__(
        self, wanted: Reproduction, original: Path | None, uploads: UploadQueue, folder: Path
    ) -> None:
        self._wanted = wanted
        self._original = original
        self._uploads = uploads
        self._folder = folder
        self._manifests: list[Upload] = []

    def submit(self, upload: Upload | StreamedFile) -> None:
        """Upload a file, or keep it until the run has ended."""
        is_manifest = upload.kind is ArtifactKind.MANIFEST and upload.media_type == MEDIA_TYPE
        if is_manifest and isinstance(upload, Upload):
            self._manifests.append(upload)
        else:
            self._uploads.submit(upload)

    def compare(self) -> None:
        """The run has succeeded: write into each manifest how its result compares."""
        made = [item for item in self._uploads.submitted if item.kind is self._wanted.kind]
        sha256 = made[0].sha256 if made else None
        documents = [_read(upload.path) for upload in self._manifests]
        if not any(document is not None for document in documents):
            documents.append({})
            self._manifests.append(Upload(ArtifactKind.MANIFEST, self._new_path(), MEDIA_TYPE))
        self._folder.mkdir()
        for place, document in enumerate(documents):
            if document is None:
                continue
            try:
                section = self._section(sha256, document)
                text = json.dumps({**document, _SECTION: section}, indent=2)
            except RecursionError:
                continue
            path = self._folder / self._manifests[place].path.name
            path.write_text(f"{text}\n", encoding="utf-8")
            self._manifests[place] = Upload(ArtifactKind.MANIFEST, path, MEDIA_TYPE)

    def release(self) -> None:
        """Upload the manifests, as they are now."""
        for upload in self._manifests:
            self._uploads.submit(upload)
        self._manifests.clear()

    def _new_path(self) -> Path:
        taken = {upload.name for upload in (*self._uploads.submitted, *self._manifests)}
        name = "manifest.json" if "manifest.json" not in taken else "reproduction.json"
        return self._folder / name

    def _section(self, sha256: str | None, document: Mapping[str, Any]) -> dict[str, Any]:
        bit_equal = sha256 == self._wanted.sha256
        differs = [] if bit_equal else [_difference("sha256", self._wanted.sha256, sha256)]
        if not bit_equal:
            original = None if self._original is None else _read(self._original)
            if original is None:
                differs.append(_difference("manifest", None, "there"))
            else:
                differs += _causes(original, document)
        log.info("run.reproduced", of=str(self._wanted.of), bit_equal=bit_equal)
        return {"of": str(self._wanted.of), "bit_equal": bit_equal, "differs": differs}


def _causes(original: Mapping[str, Any], here: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What may have made the results different."""
    before, now = dict(_leaves(original)), dict(_leaves(here))
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return [
        _difference(name, before.get(name), now.get(name))
        for name in sorted(names)[:_MOST_DIFFERENCES]
    ]


def _leaves(document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The values below the sections that matter, by the way to them."""
    waiting = [(name, document[name]) for name in _CAUSES if name in document]
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [(f"{name}.{key}", item) for key, item in value.items()]
        else:
            yield name, value


def _difference(what: str, original: Any, here: Any) -> dict[str, Any]:
    return {"what": what[:_LONGEST_VALUE], "original": _brief(original), "here": _brief(here)}


def _brief(value: Any) -> Any:
    text = value if isinstance(value, str) else json.dumps(value)
    return value if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"


def _read(path: Path) -> dict[str, Any] | None:
    """A manifest that is a JSON object; None for what is none, or too large to be one."""
    try:
        with open_regular(path) as file:
            data = file.read(LARGEST_MANIFEST + 1)
        document = json.loads(data) if len(data) <= LARGEST_MANIFEST else None
    except (OSError, ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None
