"""Encoding textures."""

import cv2
import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


def encode_jpeg(pixels: Bytes) -> bytes:
    """Encode a texture (h, w, 3) without subsampled colours, which would bleed across charts."""
    options = [
        cv2.IMWRITE_JPEG_QUALITY, 92,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]  # fmt: skip
    return _encode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)


def encode_png(pixels: Bytes) -> bytes:
    """Encode a picture (h, w, 3) or (h, w, 4) without loss."""
    order = cv2.COLOR_RGBA2BGRA if pixels.shape[2] == 4 else cv2.COLOR_RGB2BGR  # noqa: PLR2004
    return _encode(".png", cv2.cvtColor(pixels, order), [cv2.IMWRITE_PNG_COMPRESSION, 4])


def _encode(suffix: str, pixels: cv2.typing.MatLike, options: list[int]) -> bytes:
    done, data = cv2.imencode(suffix, pixels, options)
    if not done:
        raise RuntimeError(f"encoding {suffix} failed")
    return data.tobytes()
