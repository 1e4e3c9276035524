"""What it was measured on."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from bench.worker_bench.environments import REQUIREMENTS, binaries
from devstack.servers.redis import redis_executable


def describe() -> str:
    """The machine and the versions, in two lines."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    server = subprocess.run(
        [redis_executable(), "--version"], capture_output=True, text=True, check=True
    )
    redis_version = server.stdout.partition("v=")[2].split()[0]
    peers = [_installed(name) for name in REQUIREMENTS if name != "rq"]
    return (
        f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB, Linux {platform.release()}.\n"
        f"Python {platform.python_version()}, Redis {redis_version}, RQ {version('rq')}, "
        f"redis-py {version('redis')}, {', '.join(peers)}."
    )


def _installed(name: str) -> str:
    python = binaries(name) / "python"
    code = f"from importlib.metadata import version; print(version({name!r}))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return f"{name.capitalize()} {done.stdout.strip()}"


def load() -> str:
    """How busy the machine was in the last minute, and so what others took of it."""
    return f"{os.getloadavg()[0]:.1f}"
