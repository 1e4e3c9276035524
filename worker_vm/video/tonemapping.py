"""High dynamic range to what a JPEG shows.

PQ (SMPTE ST 2084) and HLG (ARIB STD-B67, as in ITU-R BT.2100) become linear light, its brightness
is compressed by Hable's curve so that white is at 203 nits (ITU-R BT.2408), BT.2020 colours become
those of BT.709, and the result is encoded as sRGB.
"""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

PQ = 16
HLG = 18
"""As in ITU-T H.273, colour transfer characteristics."""
BT2020 = 9
"""As in ITU-T H.273, colour primaries."""

_REFERENCE_NITS = 203.0
_PEAK_NITS = 1000.0
_LEVELS = 4096
# ITU-R BT.2087, annex 2.
_BT2020_TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]],
    np.float32,
)
_LUMA = np.array([0.2627, 0.6780, 0.0593], np.float32)


def is_hdr(transfer: int) -> bool:
    """Whether a transfer characteristic is one of high dynamic range."""
    return transfer in {PQ, HLG}


def tone_map(rgb: NDArray[np.uint16], transfer: int, *, wide: bool) -> NDArray[np.uint8]:
    """Bring (height, width, 3) pixels of 16 bits to 8 bits of sRGB.

    Args:
        rgb: as the video codes them.
        transfer: PQ or HLG.
        wide: whether the colours are those of BT.2020.
    """
    out = np.empty(rgb.shape, np.uint8)
    rows = max(1, (1 << 19) // max(rgb.shape[1], 1))  # some MiB at a time
    for top in range(0, rgb.shape[0], rows):
        linear = _to_linear(transfer)[rgb[top : top + rows] >> 4]
        luma = np.maximum(linear @ _LUMA, 1e-6)
        linear *= (_compress(luma) / luma)[..., None]
        if wide:
            linear = linear @ _BT2020_TO_BT709.T
        index = (np.clip(linear, 0, 1) * (_LEVELS - 1) + 0.5).astype(np.uint16)
        out[top : top + rows] = _to_srgb()[index]
    return out


@cache
def _to_linear(transfer: int) -> NDArray[np.float32]:
    """Light by code value, 1 being reference white."""
    code = np.linspace(0, 1, _LEVELS)
    if transfer == PQ:
        m1, m2 = 2610 / 16384, 2523 / 4096 * 128
        c1, c2, c3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
        root = code ** (1 / m2)
        nits = 10000 * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)
    else:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        scene = np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)  # noqa: PLR2004
        nits = _PEAK_NITS * scene**1.2  # the system gamma of a display of 1000 nits
    return (nits / _REFERENCE_NITS).astype(np.float32)


def _compress(light: Any) -> Any:
    """Hable's filmic curve, with the peak at 1."""
    white = np.float32(_PEAK_NITS / _REFERENCE_NITS)
    return np.minimum(_hable(light) / _hable(white), 1)


def _hable(x: Any) -> Any:
    a, b, c, d, e, f = 0.15, 0.50, 0.10, 0.20, 0.02, 0.30
    return (x * (a * x + c * b) + d * e) / (x * (a * x + b) + d * f) - e / f


@cache
def _to_srgb() -> NDArray[np.uint8]:
    """IEC 61966-2-1, from linear light."""
    light = np.linspace(0, 1, _LEVELS)
    code = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)  # noqa: PLR2004
    return np.asarray((code * 255 + 0.5).astype(np.uint8))


def warm_up() -> None:
    """Compute the tables."""
    _to_linear(PQ)
    _to_linear(HLG)
    _to_srgb()
