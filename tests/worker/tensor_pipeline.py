"""Scripted pipelines whose weights lie on a GPU; for tests where there is one."""

import os
from typing import Any, ClassVar

import torch
from scripted_pipeline import Scripted

_MIB = 1 << 20
_LAYER_MIB = 100


def _tensor(mib: int) -> torch.Tensor:
    return torch.ones(mib * _MIB, dtype=torch.uint8, device="cuda")


class Tensors(Scripted):
    """Holds TENSORS_MIB of the GPU's memory, of which its process gets TENSORS_LIMIT_MIB."""

    name: ClassVar[str] = "tensors"
    size_setting: ClassVar[str] = "TENSORS_MIB"

    def setup(self) -> None:
        """Load layer after layer, and keep them all at the end, as loaders of weights do."""
        super().setup()
        limit = int(os.environ.get("TENSORS_LIMIT_MIB", "0"))
        if limit:
            total = torch.cuda.get_device_properties(0).total_memory
            torch.cuda.set_per_process_memory_fraction(limit * _MIB / total)
        count = int(os.environ.get(self.size_setting, "0")) // _LAYER_MIB
        layers = [_tensor(_LAYER_MIB) for _ in range(count)]
        self.layers = layers

    def _allocate(self, mib: int, *_: Any) -> None:
        """Hold on to that much beside the weights for as long as the run lasts."""
        _tensor(mib)[-1].item()

    def _fill(self, leave_mib: int, *_: Any) -> None:
        """Take all of the device's memory but so much, as long as the pipeline is loaded."""
        while torch.cuda.mem_get_info()[0] > (leave_mib + _LAYER_MIB) * _MIB:
            self.layers.append(_tensor(_LAYER_MIB))

    def _read_out_of_bounds(self, *_: Any) -> None:
        """Fail an assertion on the device, which no process survives."""
        torch.ones(4, device="cuda")[torch.tensor([7], device="cuda")].sum().item()

    def _compute(self, _: Any, __: Any, ___: Any, metrics: dict[str, float]) -> None:
        """See that the device still computes."""
        metrics["sum"] = float(torch.arange(5, device="cuda").sum())


class LargeTensors(Tensors):
    """Another one, of LARGE_TENSORS_MIB."""

    name: ClassVar[str] = "large"
    size_setting: ClassVar[str] = "LARGE_TENSORS_MIB"
