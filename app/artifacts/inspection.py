"""What a file really is, by its first bytes; names and declared types are only claims.

Nothing is decoded here: magic bytes name the type and the header names the size of a picture.
"""

import io
import json

import filetype
import imagesize

from contract.containers import video_type_of
from contract.kinds import ArtifactKind

HEAD_BYTES = 64 * 1024
"""How much of a file has to be read to tell."""

LONG_HEAD_BYTES = 2 * 1024 * 1024
"""How much of a picture is read where its size stands behind metadata."""

_GLB = "model/gltf-binary"
_JSON = "application/json"

# Types whose first bytes can be told.
_TELLABLE = frozenset(
    {_GLB, _JSON, "image/png", "image/jpeg", "image/webp", "video/mp4", "application/zip"}
)
# Types without a signature. Nothing that a browser would run, such as HTML or SVG, is among them.
_PLAIN = frozenset(
    {
        "text/plain",
        "text/csv",
        "application/x-ndjson",
        "application/octet-stream",
        "application/vnd.apache.parquet",
        "model/ply",
        "model/stl",
    }
)


def media_type_of(head: bytes) -> str | None:
    """The media type that a file's first bytes tell, or None if they tell nothing."""
    if head[:4] == b"glTF" and len(head) >= 12:  # noqa: PLR2004  (the length of a GLB header)
        return _GLB
    # First, since the worker asks the same; filetype knows fewer brands of MP4.
    video = video_type_of(head)
    if video:
        return video
    kind = filetype.guess(head)
    return str(kind.mime) if kind else None


def picture_size(head: bytes) -> tuple[int, int] | None:
    """Width and height in pixels that a picture's header tells, or None if they stand later."""
    try:
        width, height = imagesize.get(io.BytesIO(head))
    except Exception:  # noqa: BLE001  (a parser on hostile bytes may raise anything)
        return None
    return (int(width), int(height)) if width > 0 and height > 0 else None


_PICTURES = frozenset({"image/png", "image/jpeg", "image/webp"})
_KIND_TYPES: dict[ArtifactKind, frozenset[str]] = {
    ArtifactKind.MODEL_3D: frozenset({_GLB, "model/ply", "model/stl"}),
    ArtifactKind.PREVIEW: _PICTURES | {"video/mp4"},
    ArtifactKind.VIDEO: frozenset({"video/mp4"}),
    ArtifactKind.FRAMES_ZIP: frozenset({"application/zip"}),
    ArtifactKind.ANALYTICS: frozenset({_JSON}),
    ArtifactKind.MANIFEST: frozenset({_JSON}),
    ArtifactKind.LOG: frozenset({"text/plain", "application/x-ndjson"}),
    ArtifactKind.CHECKPOINT: frozenset({"application/octet-stream", "application/zip"}),
    ArtifactKind.TELEMETRY: frozenset(
        {"application/x-ndjson", "text/csv", "application/vnd.apache.parquet", _JSON}
    ),
}


def refused_type(kind: ArtifactKind, media_type: str) -> str | None:
    """Why an artifact of a kind cannot be of a media type; None if it can."""
    accepted = _KIND_TYPES.get(kind, frozenset())
    if media_type in accepted:
        return None
    if not accepted:
        return f"is of kind {kind}, which no worker makes"
    return f"is {media_type}; a {kind} is {' or '.join(sorted(accepted))}"


def contradicts(media_type: str, head: bytes, *, is_whole: bool) -> str | None:
    """How a file's first bytes contradict its declared type; None if they do not.

    Args:
        media_type: what was declared.
        head: the first bytes.
        is_whole: whether these are all of them.
    """
    if media_type in _PLAIN:
        return None
    if media_type not in _TELLABLE:
        return f"has the media type {media_type}, which is not accepted for artifacts"
    if media_type == _JSON:
        if is_whole:
            try:
                json.loads(head)
            except (ValueError, RecursionError):
                return "is not valid JSON"
        return None if head.lstrip()[:1] in {b"{", b"["} else "is not a JSON object or list"
    found = media_type_of(head)
    if found != media_type:
        return f"is {found or 'of unknown type'}, not {media_type}"
    return None
