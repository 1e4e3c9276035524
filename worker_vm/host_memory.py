"""Memory as a pipeline host sees it: what counts, what may be used, what can be given back.

Standard library only, like everything that a host needs; torch is asked if a pipeline has brought
it along.
"""

import gc
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from worker_vm.host_protocol import Memory

_MIB = 1 << 20


def memory_now() -> Memory:
    """What this process holds of which memory, and what all hosts may hold of it together."""
    cuda = _cuda()
    return Memory(
        device="machine" if cuda is None else "cuda",
        used_mib=used_memory_mib(),
        budget_mib=_budget_mib(),
    )


def used_memory_mib() -> int:
    """Memory that counts: the device's where there is one, else this process's."""
    cuda = _cuda()
    if cuda is not None:
        return sum(int(cuda.memory_reserved(i)) for i in range(cuda.device_count())) // _MIB
    return resident_mib()


def resident_mib() -> int:
    """This process's part of the machine's memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // _MIB


def free_caches() -> None:
    """Give back what only caches hold."""
    gc.collect()
    cuda = _cuda()
    if cuda is not None:
        with suppress(Exception):
            cuda.empty_cache()


def settle() -> None:
    """Leave out what is loaded now when garbage is collected after each run.

    Looking through the objects of numeric libraries takes a tenth of a second.
    """
    gc.collect()
    gc.freeze()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory, the machine's or a device's, did not suffice."""
    # torch's exception is recognised by name, since torch is not imported here. What torch does
    # not allocate itself, such as a process's first context on a full device, fails with the words.
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "CUDA error: out of memory" in str(error)
    )


def _budget_mib() -> int:
    """The setting, or else four fifths of the device's memory, or half of the machine's."""
    setting = int(os.environ.get("WORKER_MEMORY_BUDGET_MIB") or 0)
    if setting:
        return setting
    cuda = _cuda()
    if cuda is not None:
        return int(cuda.get_device_properties(0).total_memory * 0.8) // _MIB
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2 // _MIB


def device_name() -> str | None:
    """The GPU that pipelines of this process use; None if they use none."""
    cuda = _cuda()
    return None if cuda is None else str(cuda.get_device_name(0))


def _cuda() -> Any:
    """torch.cuda, if a pipeline has imported torch and there is a device."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_available() else None
