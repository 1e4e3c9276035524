"""A cut-out by something else than ours, such as rembg, where the operator plugs it in.

`CUTOUT_FUNCTION=module:function` names a function of a picture (h, w, 3), sRGB bytes, that returns
its alpha (h, w): bytes, or numbers in 0…1. It runs in the worker's own Python, and what it returns
is judged like a transparency that came with the picture.
"""

import os
import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker_vm.pipelines.base import PipelineError

SETTING = "CUTOUT_FUNCTION"

Bytes = NDArray[np.uint8]

_WHERE = re.compile(r"[\w.]+:\w+")
_OPAQUE = 255
_MEANINGFUL_SHARE = 0.02


def with_alpha(rgba: Bytes, environment: Mapping[str, str] = os.environ) -> Bytes:
    """A picture (h, w, 4) with the alpha of the plugged-in function.

    A picture that brings transparency of its own, or any where nothing is plugged in, stays as it
    is.

    Raises:
        PipelineError: CUTOUT_PLUGIN_FAILED, the function cannot be used.
    """
    where = environment.get(SETTING, "").strip()
    if not where or float((rgba[..., 3] < _OPAQUE // 2).mean()) >= _MEANINGFUL_SHARE:
        return rgba
    try:
        alpha = np.asarray(_function(where)(np.ascontiguousarray(rgba[..., :3])))
        return np.dstack([rgba[..., :3], _as_bytes(alpha, rgba.shape[:2])])
    except MemoryError:
        raise
    except Exception as error:
        raise PipelineError(
            "CUTOUT_PLUGIN_FAILED",
            f"The operator's cut-out ({SETTING}) failed: {type(error).__name__}: {error}.",
            permanent=False,
        ) from error


@cache
def _function(where: str) -> Callable[[Bytes], Any]:
    if _WHERE.fullmatch(where) is None:
        raise ValueError(f"{SETTING} is not of the form module:function")
    module, _, name = where.partition(":")
    found: Callable[[Bytes], Any] = getattr(import_module(module), name)
    return found


def _as_bytes(alpha: NDArray[Any], shape: tuple[int, ...]) -> Bytes:
    if alpha.shape != shape:
        raise ValueError(f"alpha of shape {alpha.shape} for a picture of {shape}")
    if alpha.dtype == np.uint8:
        return alpha
    if not np.isfinite(alpha).all():
        raise ValueError("alpha that is no number")
    return np.asarray(np.rint(np.clip(alpha.astype(np.float64), 0.0, 1.0) * _OPAQUE), np.uint8)
