"""What a file really is, by its first bytes; names and declared types are only claims.

Nothing is decoded here: magic bytes name the type and the header names the size of a picture.
"""

import io
import json
import struct
from collections.abc import Callable

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
_PLY = "model/ply"
_STL = "model/stl"
_USDZ = "model/vnd.usdz+zip"
_ZIP = "application/zip"

# Types whose first bytes can be told.
_TELLABLE = frozenset({_GLB, _JSON, "image/png", "image/jpeg", "image/webp", "video/mp4", _ZIP})
# Types without a signature. Nothing that a browser would run, such as HTML or SVG, is among them.
_PLAIN = frozenset(
    {
        "text/plain",
        "text/csv",
        "application/x-ndjson",
        "application/octet-stream",
        "application/vnd.apache.parquet",
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
    # An OBJ is a ZIP, with its materials and textures.
    ArtifactKind.MODEL_3D: frozenset({_GLB, _PLY, _STL, _USDZ, _ZIP}),
    ArtifactKind.PREVIEW: _PICTURES | {"video/mp4"},
    ArtifactKind.VIDEO: frozenset({"video/mp4"}),
    ArtifactKind.FRAMES_ZIP: frozenset({_ZIP}),
    ArtifactKind.ANALYTICS: frozenset({_JSON}),
    ArtifactKind.MANIFEST: frozenset({_JSON}),
    ArtifactKind.LOG: frozenset({"text/plain", "application/x-ndjson"}),
    ArtifactKind.CHECKPOINT: frozenset({"application/octet-stream", _ZIP}),
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


def _is_ply(head: bytes, *, is_whole: bool) -> bool:  # noqa: ARG001
    return head.startswith((b"ply\n", b"ply\r"))


def _is_stl(head: bytes, *, is_whole: bool) -> bool:
    """Text, or 80 bytes of anything, the number of triangles and 50 bytes for each."""
    if len(head) >= 84:  # noqa: PLR2004
        size = 84 + 50 * struct.unpack_from("<I", head, 80)[0]
        if size == len(head) if is_whole else size > len(head):
            return True
    return head.startswith(b"solid")


def _is_usdz(head: bytes, *, is_whole: bool) -> bool:  # noqa: ARG001
    """A ZIP that begins with a USD layer, neither packed nor off a boundary of 64 bytes."""
    if len(head) < 30 or head[:4] != b"PK\x03\x04":  # noqa: PLR2004
        return False
    method, name, extra = struct.unpack_from("<8xH16xHH", head)
    layer = head[30 : 30 + name].lower()
    return method == 0 and (30 + name + extra) % 64 == 0 and layer.endswith(_USD_LAYERS)


_USD_LAYERS = (b".usd", b".usda", b".usdc")
_SHAPES: dict[str, Callable[..., bool]] = {_PLY: _is_ply, _STL: _is_stl, _USDZ: _is_usdz}
"""Types that are told by more than a fixed beginning."""


def _not_json(head: bytes, *, is_whole: bool) -> str | None:
    if is_whole:
        try:
            json.loads(head)
        except (ValueError, RecursionError):
            return "is not valid JSON"
    return None if head.lstrip()[:1] in {b"{", b"["} else "is not a JSON object or list"


def contradicts(media_type: str, head: bytes, *, is_whole: bool) -> str | None:
    """How a file's first bytes contradict its declared type; None if they do not.

    Args:
        media_type: what was declared.
        head: the first bytes.
        is_whole: whether these are all of them.
    """
    if media_type in _PLAIN:
        return None
    if media_type in _SHAPES:
        is_so = _SHAPES[media_type](head, is_whole=is_whole)
        return None if is_so else f"is not {media_type} by its first bytes"
    if media_type not in _TELLABLE:
        return f"has the media type {media_type}, which is not accepted for artifacts"
    if media_type == _JSON:
        return _not_json(head, is_whole=is_whole)
    found = media_type_of(head)
    if found != media_type:
        return f"is {found or 'of unknown type'}, not {media_type}"
    return None
