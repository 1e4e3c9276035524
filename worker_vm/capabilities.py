"""What this machine is."""

import csv
import os
import platform
import shutil
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

from contract.workers import GpuInfo
from worker_vm.logs import get_logger

log = get_logger(__name__)

PACKAGES = (
    "rq",
    "redis",
    "numpy",
    "scipy",
    "numba",
    "scikit-image",
    "opencv-python-headless",
    "trimesh",
    "usd-core",
    "manifold3d",
    "pillow",
    "av",
    "onnxruntime",
    "rapidocr",
    "supervision",
    "trackers",
    "torch",
    "diffusers",
    "transformers",
)
"""Whose versions decide what a pipeline makes."""

GPU_FIELDS = "name,memory.total,memory.free,driver_version"
GPU_SECONDS = 10
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
_MIB = 1 << 20


def cpu_count() -> int:
    """CPUs this process may use."""
    return len(os.sched_getaffinity(0))


def memory_total_mib() -> int:
    """Memory of the machine, or of the container where that is less."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        limit = _CGROUP_LIMIT.read_text().strip()
    except OSError:
        limit = "max"
    return min(total, int(limit) if limit.isdigit() else total) // _MIB


def find_gpus(program: str = "nvidia-smi") -> list[GpuInfo]:
    """The GPUs that NVIDIA's own tool sees; none where there is no such tool."""
    path = shutil.which(program)
    if path is None:
        return []
    try:
        answer = subprocess.run(  # noqa: S603  (no shell, fixed arguments)
            [path, f"--query-gpu={GPU_FIELDS}", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=GPU_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("gpu.unknown", reason=f"{program}: {type(error).__name__}")
        return []
    return parse_gpus(answer.stdout)


def parse_gpus(table: str) -> list[GpuInfo]:
    """GPUs from the tool's CSV; a memory it doesn't know is 0."""
    rows = csv.reader(table.splitlines(), skipinitialspace=True)
    columns = len(GPU_FIELDS.split(","))
    return [
        GpuInfo(
            name=row[0][:200],
            memory_total_mib=int(row[1]) if row[1].isdigit() else 0,
            memory_free_mib=int(row[2]) if row[2].isdigit() else 0,
            driver=row[3][:100],
        )
        for row in rows
        if len(row) == columns
    ]


@cache
def library_versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that matter; imports none of them."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
