"""Pictures that users upload, as pixels.

The bytes are hostile: magic bytes decide the type, and the decoder runs confined
(`worker_vm.sandbox`). What comes back from it is checked like any input.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker_vm.image_limits import MAX_BYTES, MAX_PIXELS, MAX_SIDE
from worker_vm.pipelines.base import PipelineError
from worker_vm.sandbox import Limits, SandboxError, run_confined

_CHANNELS = 4
_MIB = 1 << 20
_LIMITS = Limits(
    # 4096² pixels in RGBA are 64 MiB; rotating, converting and animation canvases need copies.
    memory_bytes=512 * _MIB,
    cpu_seconds=10,
    output_bytes=MAX_PIXELS * _CHANNELS + 4096,
    wall_seconds=30.0,
)
_NAMED_TYPES = (
    (b"GIF8", "a GIF"),
    (b"BM", "a BMP"),
    (b"II*\0", "a TIFF"),
    (b"MM\0*", "a TIFF"),
    (b"%PDF", "a PDF"),
    (b"<", "a text or HTML file"),
)


@dataclass(frozen=True)
class Picture:
    """A decoded picture."""

    rgba: NDArray[np.uint8]
    """(height, width, 4), sRGB, straight alpha, upright."""
    format: str
    """PNG, JPEG or WEBP."""


def invalid_input(message: str) -> PipelineError:
    """Return the permanent failure for a file that is no usable picture."""
    return PipelineError("INVALID_INPUT", message, permanent=True)


def sniff(head: bytes) -> str:
    """Return PNG, JPEG or WEBP from a file's first 16 bytes, whatever its name says.

    Raises:
        PipelineError: INVALID_INPUT, it is something else.
    """
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    found = next((name for magic, name in _NAMED_TYPES if head.startswith(magic)), "something else")
    raise invalid_input(f"The file is not a PNG, JPEG or WebP picture but {found}.")


def decode(path: Path, work_dir: Path) -> Picture:
    """Decode an uploaded picture in a confined child process.

    EXIF rotation is applied, of an animation the first frame is taken, and pictures of 16 bits,
    with a palette, in grey or CMYK come out as 8-bit sRGB with alpha.

    Args:
        path: the uploaded file.
        work_dir: private folder for the pixels on their way.

    Raises:
        PipelineError: INVALID_INPUT, it can't be decoded within the limits.
    """
    size = path.stat().st_size
    if size == 0:
        raise invalid_input("The file is empty.")
    if size > MAX_BYTES:
        raise invalid_input(f"The file is larger than {MAX_BYTES // _MIB} MiB.")
    with path.open("rb") as file:
        kind = sniff(file.read(16))
    raw = work_dir / "decoded.rgba"
    try:
        run_confined("worker_vm.image_decoder", stdin=path, stdout=raw, limits=_LIMITS)
        return _read_answer(raw, kind)
    except SandboxError as error:
        raise invalid_input(f"The {kind} file could not be decoded: {error}.") from error
    finally:
        raw.unlink(missing_ok=True)


def _read_answer(raw: Path, kind: str) -> Picture:
    """Read the decoder's answer: a line of JSON, then the pixels."""
    with raw.open("rb") as file:
        try:
            answer: dict[str, Any] = dict(json.loads(file.readline(4096)))
        except ValueError as error:
            raise SandboxError("the decoder gave no answer") from error
        if "error" in answer:
            raise invalid_input(f"The {kind} file could not be decoded: {answer['error']}.")
        width, height = answer.get("width"), answer.get("height")
        if not isinstance(width, int) or not isinstance(height, int):
            raise SandboxError("the decoder gave no size")
        if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and width * height <= MAX_PIXELS):
            raise SandboxError("the decoder gave an impossible size")
        pixels = np.fromfile(file, dtype=np.uint8)
    if pixels.size != width * height * _CHANNELS:
        raise SandboxError("the decoder gave too few pixels")
    return Picture(pixels.reshape(height, width, _CHANNELS), kind)
