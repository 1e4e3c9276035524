"""Compile kernels with numba, with a cache that also works from a read-only installation."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def _choose_cache() -> None:
    """Point numba to a private folder when it can't write beside the sources.

    The cache holds pickles, so nobody else may write to it.
    """
    beside = Path(__file__).parent
    if os.environ.get("NUMBA_CACHE_DIR") or os.access(beside, os.W_OK):
        return
    folder = Path(tempfile.gettempdir()) / f"pipeline3d-numba-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o077 or not folder.is_dir():
        folder = Path(tempfile.mkdtemp(prefix="pipeline3d-numba-"))
    os.environ["NUMBA_CACHE_DIR"] = str(folder)


_choose_cache()
import numba  # noqa: E402  (reads the environment when imported)

numba.config.reload_config()  # type: ignore[no-untyped-call]


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile on first call: one thread, GIL released, cached on disk."""
    compiled: Callable[P, R] = numba.njit(cache=True, nogil=True, fastmath=True)(function)
    return compiled


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """Compile as part of the kernels that call it."""
    compiled: Callable[P, R] = numba.njit(cache=True, nogil=True, fastmath=True, inline="never")(
        function
    )
    return compiled
