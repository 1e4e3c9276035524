"""The confined child that turns one picture into RGBA pixels (see `worker_vm.images`).

Stdin is the file; stdout gets one line of JSON (`{"width", "height"}` or `{"error"}`) and then
width x height x 4 bytes.
"""

import contextlib
import io
import json
import sys

# All plugins are named, so that they are loaded before files can't be opened any more.
from PIL import (
    Image,
    ImageCms,
    ImageOps,
    JpegImagePlugin,  # noqa: F401
    MpoImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    WebPImagePlugin,  # noqa: F401
)

from worker_vm.image_limits import MAX_PIXELS, MAX_SIDE, MIN_SIDE
from worker_vm.sandbox import confine, limits_from_argv


class _RefusedError(Exception):
    """The picture is refused; the text completes "could not be decoded: …"."""


def _decode() -> Image.Image:
    image: Image.Image = Image.open(sys.stdin.buffer, formats=("PNG", "JPEG", "WEBP"))
    width, height = image.size
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise _RefusedError(
            f"it has {width} x {height} pixels, and at most {MAX_PIXELS} (4096 x 4096) are taken"
        )
    if min(width, height) < MIN_SIDE:
        raise _RefusedError(
            f"it has only {width} x {height} pixels, and each side needs {MIN_SIDE}"
        )
    image.load()
    if image.mode.startswith("I") or image.mode == "F":  # 16-bit grey
        image = image.convert("I").point(lambda value: value * (1 / 257)).convert("L")
    image = _to_srgb(image)
    with contextlib.suppress(Exception):  # a broken EXIF block is no reason to refuse
        image = ImageOps.exif_transpose(image)
    return image.convert("RGBA")


def _to_srgb(image: Image.Image) -> Image.Image:
    """Convert from the embedded colour profile, where there is a usable one."""
    profile = image.info.get("icc_profile")
    if not profile or image.mode not in {"RGB", "RGBA", "CMYK", "L"}:
        return image
    with contextlib.suppress(Exception):
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "sRGB" not in ImageCms.getProfileDescription(source):
            mode = image.mode if image.mode == "RGBA" else "RGB"
            converted = ImageCms.profileToProfile(
                image, source, ImageCms.createProfile("sRGB"), outputMode=mode
            )
            return converted or image
    return image


def main() -> None:
    """Decode stdin to stdout, confined."""
    Image.preinit()
    Image.MAX_IMAGE_PIXELS = None  # our own limit is stricter and has its own sentence
    confine(limits_from_argv())
    pixels = b""
    try:
        image = _decode()
        answer: dict[str, object] = {"width": image.width, "height": image.height}
        pixels = image.tobytes()
    except _RefusedError as error:
        answer = {"error": str(error)}
    except MemoryError:
        answer = {"error": "it needs too much memory"}
    except Exception:  # noqa: BLE001  (decoders raise nearly everything on broken files)
        answer = {"error": "it is damaged or cut short"}
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
    sys.stdout.buffer.write(pixels)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
