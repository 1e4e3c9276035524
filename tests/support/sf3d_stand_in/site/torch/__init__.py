"""As much of torch as the adapter calls; `state` shows what it has done."""

import contextlib
import os
from types import SimpleNamespace
from typing import Any

import numpy as np

__version__ = "2.4.1"
bfloat16 = "bfloat16"
state: dict[str, Any] = {"autocast": None, "grad": True, "seed": None}


class OutOfMemoryError(RuntimeError):
    """The device's memory did not suffice."""


@contextlib.contextmanager
def _set(name: str, value: Any) -> Any:
    before = state[name]
    state[name] = value
    yield
    state[name] = before


def no_grad() -> Any:
    """Record nothing for gradients."""
    return _set("grad", value=False)


def autocast(device_type: str, dtype: str) -> Any:
    """Compute in a smaller type."""
    return _set("autocast", [device_type, dtype])


def manual_seed(seed: int) -> None:
    """Seed the generators of all devices."""
    state["seed"] = seed


def tensor(values: Any, device: str) -> Any:
    """Numbers on a device."""
    return SimpleNamespace(values=np.asarray(values), device=device)


cuda = SimpleNamespace(
    is_available=lambda: os.environ.get("STAND_IN_CUDA") == "1",
    device_count=lambda: 1,
    memory_reserved=lambda _: 0,
    empty_cache=lambda: None,
    get_device_name=lambda: "Stand-in GPU",
    reset_peak_memory_stats=lambda: None,
    max_memory_allocated=lambda: 6 << 30,
)
