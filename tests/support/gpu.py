"""Tests that need a GPU are left out where there is none that torch can use."""

from importlib.util import find_spec

import pytest

from worker_vm.capabilities import find_gpus


def leave_out_without_gpu(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what is marked `gpu` on a machine without one."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked or (find_spec("torch") is not None and find_gpus()):
        return
    config.hook.pytest_deselected(items=marked)
    items[:] = [item for item in items if item not in marked]
