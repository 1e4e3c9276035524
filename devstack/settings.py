"""Which settings the stack's processes get."""

import os
from collections.abc import Mapping
from io import StringIO
from pathlib import Path

from dotenv import dotenv_values

from devstack.env import fill_in

ROOT = Path(__file__).resolve().parent.parent

WORKER_SETTINGS = (
    "WORKER_API_KEY",
    "WORKER_QUEUE",
    "WORKER_WORK_DIR",
    "WORKER_THREADS",
    "WORKER_PRELOAD",
    "WORKER_PIPELINES",
    "WORKER_DRAIN_SECONDS",
    "WORKER_MEMORY_BUDGET_MIB",
    "WORKER_RECYCLE_RUNS",
    "WORKER_RECYCLE_DRIFT_MIB",
    "GLTF_VALIDATOR",
    "CUTOUT_FUNCTION",
    "SF3D_PYTHON",
    "SF3D_LICENCE_ACCEPTED",
    "SF3D_MODEL",
    "SF3D_USE_CPU",
    "HF_TOKEN",
    "DREAMFUSION_MODEL",
    "DREAMFUSION_DEVICE",
    "DREAMFUSION_COMPILE",
    "VIDEO_MAX_PIXELS",
    "VIDEO_MAX_SECONDS",
    "VIDEO_MAX_FRAMES",
    "VIDEO_MAX_COPIES",
    "VIDEO_MAX_OUTPUT_MIB",
    "VIDEO_MEMORY_MIB",
    "VIDEO_WORK_SECONDS",
)
SYSTEM_NAMES = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ")
# Where a GPU worker finds its driver, its models and how to download them.
WORKER_PREFIXES = ("CUDA_", "NVIDIA_", "LD_LIBRARY_PATH", "HF_", "TORCH_", "NUMBA_", "COVERAGE_")
NOT_FOR_CHILDREN = frozenset({"VIRTUAL_ENV", "PYTHONHOME", "PYTHONPATH"})


def _parse(text: str) -> dict[str, str]:
    values = dotenv_values(stream=StringIO(text), interpolate=False)
    return {name: value or "" for name, value in values.items()}


def fresh_settings() -> dict[str, str]:
    """`.env.example` with secrets of its own: independent of this machine's `.env`."""
    return _parse(fill_in((ROOT / ".env.example").read_text()))


def unlimited() -> dict[str, str]:
    """The settings that let one user ask as often, and queue as much, as tests and benches do."""
    limits = ("RATE_LIMIT_", "MAX_QUEUED_JOBS_")
    return {name: "0" for name in fresh_settings() if name.startswith(limits) and "_PER_" in name}


def user_settings() -> dict[str, str]:
    """What the user set: `.env`, and above it the environment."""
    file = ROOT / ".env"
    names = _parse((ROOT / ".env.example").read_text())
    values = _parse(file.read_text()) if file.exists() else {}
    return values | {name: os.environ[name] for name in names | values if name in os.environ}


def app_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """The environment of the api, the dispatcher and the dashboard."""
    inherited = {k: v for k, v in os.environ.items() if k not in NOT_FOR_CHILDREN}
    return inherited | dict(settings) | {"PYTHONUNBUFFERED": "1"}


def worker_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """The worker's environment: nothing in it about the database or storage."""
    inherited = {
        k: v for k, v in os.environ.items() if k in SYSTEM_NAMES or k.startswith(WORKER_PREFIXES)
    }
    names = ("REDIS_URL", "API_URL", "LOG_LEVEL", "LOG_FORMAT", *WORKER_SETTINGS)
    chosen = {name: settings[name] for name in names if name in settings}
    return inherited | chosen | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
